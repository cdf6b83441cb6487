"""How "the answer is" is said in languages other than English."""

import re
from typing import NamedTuple

_MARKS = r"[*_`]{0,3}\s?"
_OPEN = r"[*_:：\s]{0,9}"
_REST = r"(?P<rest>[^\n]+)"
# Spanish, Portuguese, French, German, Indonesian, Russian, Arabic, Hindi, Bengali, Urdu, Chinese, Japanese, Korean.
_PHRASES = (
    r"respuestas?(?:\s(?:final|correcta|definitiva))*{m}(?:es|sería|son|[:：=])",
    r"respostas?(?:\s(?:final|correta|certa|definitiva))*{m}(?:é|seria|são|[:：=])",
    r"réponses?(?:\s(?:finale|correcte|définitive|exacte))*{m}(?:est|serait|[:：=])",
    r"antwort(?:\s\w{1,12})?{m}(?:ist|lautet|wäre|[:：=])",
    r"jawaban(?:nya)?(?:\s(?:akhir|akhirnya|yang|benar|tepat))*{m}(?:adalah|ialah|yaitu|[:：=])",
    r"ответ\w{0,2}(?:\sна\s\w{1,12})?{m}(?:равен|будет|является|это|—|–|-|[:：=])",
    r"(?:الإجابة|الاجابة|الجواب|الإجابه)(?:\s(?:النهائية|الصحيحة|النهائي|الصحيح))*{m}(?:هي|هو|[:：=])",
    r"(?:उत्तर|जवाब){m}(?:है|होगा|यह है|[:：=-])",
    r"উত্তর(?:টি)?{m}(?:হলো|হল|হচ্ছে|হবে|হয়|[:：=])",
    r"جواب{m}(?:یہ ہے|ہے|ہوگا|[:：=])",
    r"(?:答案|答)(?:应该|應該|就)?{m}(?:是选项|是|为|為|等于|等於|选|選|[:：=])",
    r"(?:答え|解答|回答|正解){m}(?:は|[:：=])",
    r"(?:정답|답변|답){m}(?:은|는|[:：=])",
)
_SAID = re.compile(
    rf"(?:{'|'.join(phrase.replace('{m}', _MARKS) for phrase in _PHRASES)}){_OPEN}{_REST}", re.IGNORECASE
)
# The value stands before the verb.
_BEFORE_VERB = re.compile(
    r"(?:उत्तर|जवाब|جواب|উত্তর)(?:টি)?\s(?P<rest>[^\n।۔]{1,80}?)[*_]{0,3}\s?(?:है|हैं|होगा|ہے|ہوگا|হবে)(?=[\s।۔.,]|$)"
)
_TAIL = re.compile(
    r"\s?(?:です|である|だ|になります|となります|입니다|이다|이에요|है|हैं|होगा|ہے|ہوگا|হবে)?[\s。．.।۔!！*_]{0,9}$"
)
_HEDGE = re.compile(
    r"^(?:(?:la|el|le|les|die|der|das|opción|opcion|option|(?:a\s|o\s)?(?:opção|alternativa)|вариант|по умолчанию"
    r"|pilihan|opsi|选项|選項|विकल्प"
    r"|বিকল্প|الخيار|aproximadamente|environ|etwa|ungefähr|примерно|около|约|約|sekitar)\s*)+(?=[\[(]?[A-Z\d$€£₹*-])",
    re.IGNORECASE,
)
_WORDS = (
    "respuesta",
    "resposta",
    "antwort",
    "jawaban",
    "réponse",
    "ответ",
    "جابة",
    "جواب",
    "उत्तर",
    "जवाब",
    "উত্তর",
    "答",
    "解",
    "답",
)


class Said(NamedTuple):
    """What stands behind such a phrase, and where."""

    rest: str
    start: int


def speaks(lower: str) -> bool:
    """Say at once whether a text in lower case may hold such a phrase."""
    return any(word in lower for word in _WORDS)


def last_said(text: str) -> Said | None:
    """Return what the last such phrase of a text states, None where there is none."""
    said = list(_SAID.finditer(text))
    found = said[-1] if said else None
    for before in _BEFORE_VERB.finditer(text):
        if found is None or before.start() > found.start():
            found = before
    if found is None:
        return None
    rest = _TAIL.sub("", found["rest"].strip().lstrip("*_"))
    return Said(_HEDGE.sub("", rest), found.start("rest"))
