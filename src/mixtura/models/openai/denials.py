"""Refusals by their words: is it one model that this key does not get, the key, the account, or what was asked?

A key that gets one model less still gets the others, so nothing that is said of a model counts against the key.
"""

import re
import urllib.parse

from mixtura.models.catalog import CatalogProvider

ACCOUNT_CODES = frozenset(
    {
        *("organization_restricted", "organization_deactivated", "organization_disabled", "account_deactivated"),
        *("project_restricted", "account_suspended", "expired_api_key"),
    }
)
"""Codes that refuse whatever the key asks for, with whichever status."""

# Groq: model_permission_blocked_org, model_permission_blocked_project, model_terms_required. LiteLLM, as the type:
# key_model_access_denied, team_model_access_denied.
_MODEL_CODE = re.compile(
    r"model_(?:permission|terms|access|blocked|tier|restricted|disabled|gated|requires"
    r"|not_(?:allowed|enabled|active|permitted|accessible))|\w+_model_access_denied$",
)
_KEY_TEXT = re.compile(
    r"\b(?:invalid|incorrect|expired|revoked|disabled|missing|no) (?:\w+ )?(?:api[ -]?)?key\b"
    r"|\bkey (?:\S+ )?(?:is|was|has been|have been) (?:invalid|expired|disabled|revoked|deleted|blocked)"
    r"|\bapi[ -]?key not valid\b",
    re.IGNORECASE,
)
# Where no status says it.
_KEYLESS_TEXT = re.compile(
    r"\b(?:authentication|authori[sz]ation) (?:error|fail(?:ed|ure)|required)|\bunauthori[sz]ed\b|\blogin fail"
    r"|\binvalid (?:token|credentials|access key)\b|鉴权失败|认证失败|无效的(?:令牌|密钥)",
    re.IGNORECASE,
)
_ACCOUNT_TEXT = re.compile(
    r"\b(?:organi[sz]ation|account|team) (?:is|has been|was) (?:restricted|disabled|suspended|deactivated)",
    re.IGNORECASE,
)
_CONTENT_TEXT = re.compile(
    r"\brequires moderation\b|\b(?:input|prompt|content|message)s? (?:was|were|is) flagged\b", re.IGNORECASE
)
_THIS_MODEL = re.compile(
    r"\b(?:the|this|that|requested|selected|specified|gated|access|use) (?:\S+ )?model\b(?!\.\w)|\bmodel[: ]+[`'\"]",
    re.IGNORECASE,
)
# With a status of many meanings it has to be the model that is refused: "logprobs is not available for this model" is
# another matter.
_DENIED_TEXT = re.compile(
    r"\bmodel\b\s*\S{0,120}\s+(?:is|has been|was) (?:currently )?"
    r"(?:not (?:available (?:to|for|on|in) (?:you|your|this)|enabled|accessible|allowed|permitted)"
    r"|only available|blocked|disabled|restricted|gated)"
    r"|\bmodel\b\s*\S{0,120}\s+requires (?:terms|acceptance|accepting|a higher|an? \w+ (?:tier|plan))"
    r"|\bunable to access (?:\S+ ){0,3}model\b"
    r"|\b(?:not have access|not allowed|not authorized|no access|not permitted|must be verified|no permission)"
    r" to (?:access |use )?(?:the |this |gated )?(?:\S+ )?model\b"
    r"|\baccess to (?:the |this )?(?:gated )?model\b.{0,120}\b(?:restricted|denied|required)"
    r"|\bno (?:allowed |available )?(?:endpoints|providers) (?:found|are available|available)"
    r" (?:matching|for the selected|for this)",
    re.IGNORECASE,
)


def of_content(text: str) -> bool:
    """Say whether a refusal is of what was asked."""
    return _CONTENT_TEXT.search(text) is not None


def of_key(text: str) -> bool:
    """Say whether the words of a refusal are about a key."""
    return _KEY_TEXT.search(text) is not None or _KEYLESS_TEXT.search(text) is not None


def of_account(code: str, text: str) -> bool:
    """Say whether a refusal is of whoever has the key, so of all that it asks for."""
    return code in ACCOUNT_CODES or _ACCOUNT_TEXT.search(text) is not None


def of_model(model: str, status: int, code: str, kind: str, text: str) -> bool:
    """Say whether a refusal is of one model alone: another one may be asked with the same key.

    Args:
        model: the id that was asked.
        status: of the reply, 200 for an error inside a stream that names none.
        code: the provider's own code, "" for none.
        kind: the type that the provider gives it, "" for none.
        text: its words.
    """
    if status >= 429 or status == 413:
        return False
    if _MODEL_CODE.match(code) or _MODEL_CODE.match(kind):
        return True
    if _KEY_TEXT.search(text) or code == "invalid_api_key" or of_account(code, text):
        return False
    if status == 403 or "permission" in kind.lower():
        return _names(model, text)
    return _DENIED_TEXT.search(text) is not None


def _names(model: str, text: str) -> bool:
    named = len(model) > 1 and re.search(rf"(?<!\w){re.escape(model)}(?!\w)", text, re.IGNORECASE)
    return bool(named) or _THIS_MODEL.search(text) is not None


def next_step(row: CatalogProvider, model: str, code: str, text: str) -> str:
    """Return what may give the key the model, as the end of a sentence."""
    words = f"{code} {text}".lower()
    if "terms" in words:
        page, who = row.access_at.get("terms", ""), "an administrator accepts its terms"
    elif "project" in words:
        page, who = row.access_at.get("project", ""), "an administrator of the project allows it"
    elif re.search(r"\b(?:tier|plan|upgrade|billing|enterprise)\b", words):
        page, who = row.access_at.get("plan", ""), "it belongs to another plan, which is chosen"
    else:
        page, who = row.access_at.get("organization", ""), "an administrator of the organization allows it"
    page = page.replace("{model}", urllib.parse.quote(model, safe=""))
    if not page:
        return "this key may not use it" + (f", see {row.keys_at}" if row.keys_at else "")
    # Groq's own words name the page most often.
    return f"{who} there" if page in text else f"{who} at {page}"
