"""The value at the beginning of a sentence that states it: hedges before it and reasons behind it taken off."""

import re

from mixtura.engine.answers import literals

_HEDGE = re.compile(
    r"^(?:(?:approximately|approx\.?|about|around|roughly|exactly|simply|just|only"
    r"|clearly|therefore|thus|then|hence|indeed"
    r"|probably|likely|most likely|precisely|actually|now|also|still|indeed|equal to|equals|given by"
    r"|options?|choices?|letters?"
    r"|answer|as follows|the following|that|it is|it's)[,:]?\s+|[:=]\s*|that\s+"
    r"|(?:the\s+)?(?:(?:final|correct|right|best)\s+)?answer\s*(?:is|[:=])\s*)+",
    re.IGNORECASE,
)
_BECAUSE = re.compile(
    r",?\s+(?:because|given that|due to the fact)\b|,\s*(?:since|as|so|which|where|hence|given|thus)\b"
    r"|\s+(?:since|as|so|which|where|hence|given)\b",
    re.IGNORECASE,
)
_END = re.compile(r"[.;!?](?=[\s\"'”’)*]|$)|[。！？।۔；]")
# Words that a full stop ends and no sentence with them.
_ABBREVIATIONS = frozenset(
    "dr mr mrs ms mx st no nos rs prof sr jr vs inc ltd co corp mt ft lt gen col capt sgt cpl maj cmdr rev hon gov "  # noqa: SIM905
    "pres sen rep approx ca cf fig eq vol ch pp art sec dept univ assoc bros messrs mme mlle hr hrs fr sra srta dra "
    "ave blvd rd ste apt nr op ed eds est ext al etc viz i.e e.g a.m p.m u.s u.k u.n ph.d b.c a.d m.d b.a m.a d.c "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri sat sun max min avg temp "
    "adm supt insp det pvt esq mgr bldg cal calif fla mass mich tex va wash".split()
)
# What a new sentence begins with.
_OPENERS = frozenset(
    "a an the this that these those it its he she they we i you there here because since as so if when while where "  # noqa: SIM905
    "which what who how why to by for from in on at of with and but or not no yes all both none neither either only "
    "each every some any most many few such therefore thus hence then option options choice answer explanation reason "
    "note let let's also however although given based my our your his her their first second finally wait actually "
    "hope please thanks thank sorry after before now using multiply add subtract divide total is are was were".split()
)
_ASIDE = re.compile(r"\s*(?:\(|\s[-–—]\s|,\s|:\s)")
_LABELLED = re.compile(r"\(?[A-Za-z][).:\]](?:\s|$)|\([A-Za-z]\)")
_NOT_LISTED = re.compile(
    r"\b(?:not|rather|instead|other|others|while|but|wrong|incorrect|unlike)\b"
    r"|(?<![A-Z])(?<!Jr)[.;!?](?=\s|$)|,?\s(?:because|since|as|so|which)\b",
)
_TAKEN_BACK = re.compile(r"\s*(?:wait|actually|hmm|hold on|sorry|oops|let me|no,)(?!\w)", re.IGNORECASE)
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")
_QUANTITY = re.compile(r"\W{0,3}\d[\d.,/ ]*\S{0,3}(?:\s\S+)?|\(?[A-Z]\)?")
_MATHS = re.compile(
    r"(\${1,2})(?!\s)([^$\n]{1,300}?)(?<!\s)\1(?![\w$])|\\\((.{1,300}?)\\\)|\\\[(.{1,300}?)\\\]", re.DOTALL
)


def value_of(rest: str) -> str:
    """Cut "42 apples, because ..." down to what is compared: the value, less hedges before and reasons behind it."""
    rest = _HEDGE.sub("", rest.strip().replace("**", "").replace("__", "").strip("*_ ")).strip()
    if not rest:
        return ""
    if rest[0] in "`[{('\"":
        if (
            rest[0] == "`"
            and (code := re.match(r"(`{1,3})(?!`)([^`\n]+)\1", rest))
            and literals.ends(rest[code.end() :])
        ):
            return code[2]
        if not _LABELLED.match(rest) and (whole := literals.prefix(rest)):
            return whole
        if rest[0] in "[{":
            return rest
    if rest[0] in "$\\" and (maths := _MATHS.match(rest)):
        inner = maths[2] or maths[3] or maths[4]
        behind = _ended(rest[maths.end() :])
        return f"{inner} {behind}".strip() if behind and not _explains(behind) else inner
    if _LABELLED.match(rest):
        return _option(rest)
    return _ended(rest)


def _explains(behind: str) -> bool:
    return behind[0] in ",;:(-–—."


def _option(rest: str) -> str:
    label = _LABELLED.match(rest)
    assert label is not None, "the caller matched it"
    behind = rest[label.end() :]
    if re.match(r"[A-Z]\.", behind):
        return _ended(rest)
    if _TAKEN_BACK.match(behind):
        return rest[: label.end()].strip()
    if label[0][1] == ".":
        behind = _ended(behind)
    cut = _NOT_LISTED.search(behind)
    return rest[: label.end()] + (behind[: cut.start()] if cut else behind)


def _ended(rest: str) -> str:
    """Return `rest` up to the end of its sentence and to the reason that it gives."""
    end = len(rest)
    for found in _END.finditer(rest):
        if _ends_sentence(found[0], rest[: found.start()], rest[found.end() :]):
            end = found.start()
            break
    said = rest[:end]
    for found in _BECAUSE.finditer(said):
        # "as" and "since" are parts of a text ("twice as old"), and give the reason of a number or option.
        if (
            found[0][0] == ","
            or re.search(r"because|due to|given that", found[0])
            or _QUANTITY.fullmatch(said[: found.start()].strip())
        ):
            said = said[: found.start()]
            break
    return said.strip().strip("`").strip()


def _ends_sentence(sign: str, before: str, behind: str) -> bool:
    """Say whether a sign ends the sentence that states the value; where it may not, the value goes on.

    A value that is too long is like no other; one that is too short can be like a different one.
    """
    following = behind.lstrip("\"'”’)* \t")
    if not following or sign in "。！？।۔；":
        return True
    opener = re.match(r"[\w'’]+(?![\w'’.])", following)
    opens = opener is not None and opener[0].lower() in _OPENERS
    if sign == ";":
        return opens
    # Words without a verb ("Chapter 3. Verse 5") are no sentence of their own.
    if not opens and len(following) < 40 and len(following.split()) <= 3:
        return False
    if sign != ".":
        return True
    said = before[max(0, len(before) - 20) :].rpartition(" ")[2].lstrip("(\"'“‘").lower()
    capital = opener is not None and opener[0][0].isupper()
    if said in _ABBREVIATIONS or _INITIALS.fullmatch(said):
        return opens and capital and " " in following
    short = said.isalpha() and len(said) <= 4 and before[-len(said)].isupper()
    return opens or not short


# What stands in an aside and is no mere remark.
_CHANGES = re.compile(
    r"\d|\\|\b[A-Z]\b|\b(?:or|and|negative|positive|percent|hundreds?|thousands?|millions?|billions?|minus|plus|less|unless|except"
    r"|twice|half|double|zero|one|two|three|four|five|six|seven|eight|nine|ten|modulo|mod)\b"
)


def prefixes(said: str) -> list[str]:
    """Return what stands before an aside ("42 (see above)", "42, as shown") that holds no number or option."""
    found = _ASIDE.search(said)
    if found is None or found.start() == 0:
        return []
    behind = said[found.end() :]
    if _CHANGES.search(behind) or not re.search(r"[^\W\d_]{3}", behind):
        return []
    return [said[: found.start()]]
