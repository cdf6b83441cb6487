"""An account without money, in the words and codes of those who say so, with whichever status they do.

It is told apart from a limit that refills: asking again does not help, however long one waits.
"""

import re

_CODES = frozenset(
    {
        # OpenAI, Azure, Perplexity; Moonshot.
        *("insufficientquota", "billinghardlimitreached", "billingnotactive", "exceededcurrentquotaerror"),
        # MiniMax, DeepSeek, SiliconFlow, Vercel, Novita and gateways.
        *("insufficientbalance", "insufficientbalanceerror", "insufficientfunds", "insufficientcredits"),
        *("notenoughbalance", "notenoughcredits", "balanceinsufficient", "balancenotenough", "outofcredits"),
        *("creditbalancetoolow", "creditsexhausted", "creditlimitexceeded", "insufficientaccountbalance"),
        # Anthropic; Groq; LiteLLM; one-api and its kin; Volcengine; Alibaba.
        *("billingerror", "blockedapiaccess", "budgetexceeded", "paymentrequired", "spendlimitexceeded"),
        *("insufficientuserquota", "preconsumetokenquotafailed", "accountoverdueerror", "arrearage"),
        # Numbers: Zhipu; SiliconFlow.
        *("1113", "30001"),
    }
)
"""Codes and types, in small letters and without signs: servers write the same one in several ways."""

# Of these codes a limit that refills is said, whatever the words mention besides.
_LIMIT_CODES = frozenset({"ratelimitexceeded", "ratelimiterror", "ratelimitreached", "toomanyrequests"})
_TEXT = re.compile(
    r"\b(?:insufficient|sufficient|enough) (?:\w+ ){0,3}?(?:balance|funds|credits?)\b"
    r"|\b(?:no|low|zero|negative) (?:\w+ )?(?:balance|funds|credits)\b"
    r"|\b(?:balance|credits?|funds) (?:\w+ ){0,3}?"
    r"(?:insufficient|not enough|not sufficient|too low|negative|zero|exhausted|depleted|used up|empty)\b"
    r"|\binsufficient (?:\w+ )?quota\b|\bpurchase (?:more |additional )?credits\b"
    r"|\bout of (?:\w+ )?(?:credits?|funds|money|balance)\b"
    r"|\b(?:used|spent|exhausted|depleted|consumed)(?: all)?(?: of)? (?:your |its |the )?"
    r"(?:available |monthly |included |free |remaining ){0,3}credits\b|\bexceeded your (?:monthly )?included credits\b"
    r"|\b(?:requires|need) more credits\b|\bcredit limit (?:\w+ )?(?:exceeded|reached)"
    r"|\b(?:spend(?:ing)?|billing|budget|cost)(?: hard)? limit (?:\w+ ){0,3}?(?:reached|exceeded|hit)"
    r"|\b(?:reached|exceeded|hit|reaching|exhausted) (?:\w+ ){0,3}?(?:spend(?:ing)?|billing|budget) limit\b"
    r"|\bbudget (?:has been |was |is )?(?:exceeded|exhausted)|\bexceededbudget\b"
    r"|\b(?:please|must|need to) (?:recharge|top[ -]?up)\b|\b(?:recharge|top[ -]?up) your\b|\brecharge the account\b"
    r"|\bplease add (?:\w+ ){0,3}(?:credits|funds|payment method)\b"
    r"|\bpayment (?:is )?required\b|\b(?:unpaid|overdue|past due) (?:invoice|balance|payment|bill)"
    r"|\baccount (?:is |has been )?(?:\w+ )?(?:overdue|in arrears|unpaid)|\bin arrears\b|\bbilling (?:is )?not active\b"
    r"|\bnot active, please check your billing|\bnot in good standing|\baccount is in good standing\b"
    r"|余额不足|欠费|额度不足|余额为\s?0|余额已用|剩余额度|额度已用[尽完]|请充值|账户余额",
    re.IGNORECASE,
)
# Said of an empty account by most, and by Google of any quota.
_QUOTA_TEXT = re.compile(r"exceeded your current (?:token )?quota, please check your plan and billing", re.IGNORECASE)


def plain(code: str) -> str:
    """Return a code in small letters and without signs."""
    return "".join(sign for sign in code[:100].lower() if sign.isalnum())


def is_gone(code: str, kind: str, text: str, *, passes: bool) -> bool:
    """Say whether a refusal is for want of money.

    Args:
        code: the provider's own code, "" for none.
        kind: the type that the provider gives it, "" for none.
        text: its words.
        passes: something else in the reply says that the refusal passes by itself (a wait, or a quota of Google's).
    """
    code, kind = plain(code), plain(kind)
    if code in _CODES or kind in _CODES:
        return True
    if code in _LIMIT_CODES or kind in _LIMIT_CODES:
        return False
    return _TEXT.search(text) is not None or (not passes and _QUOTA_TEXT.search(text) is not None)
