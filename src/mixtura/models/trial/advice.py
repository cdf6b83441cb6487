"""What the user should do about what a trial showed, in a sentence or two."""

from collections.abc import Sequence

from mixtura.models.trial.calls import CallName
from mixtura.models.trial.findings import Finding

_MEND: dict[str, str] = {
    "unreachable": "Nothing answers at this address: start the server, or check host and port.",
    "blocked": "Something between here and the server lets nothing through: a proxy, a certificate, a firewall.",
    "rate_limited": "The limit of this key is reached: try again later.",
    "overloaded": "The server does not answer now: look at its log, or try again later.",
    "timed_out": "The server is too slow, or hangs: look at its log.",
    "broken_reply": "What answers there is no server for chat: check the base URL, which most often ends with /v1.",
}


def advice(findings: Sequence[Finding], *, key: str, models: Sequence[str], elsewhere: str) -> str:
    """Return what to do.

    Args:
        findings: what the calls showed.
        key: the variable that the key belongs into, "" where none is needed.
        models: some that the server lists.
        elsewhere: an address of the same server that lists models, "" for none.
    """
    by_name: dict[CallName, Finding] = {found.name: found for found in findings}
    whole, streamed = by_name.get("whole"), by_name.get("streamed")
    if whole is None or streamed is None:
        return ""
    if whole.works is not True and streamed.works is not True:
        return _unanswered(whole, key=key, models=models, elsewhere=elsewhere)
    said = []
    if whole.works is not True:
        said.append("Only streamed replies come: what reads an answer whole fails here.")
    elif streamed.works is False:
        said.append("Only whole replies come: what is streamed fails here, and nothing shows before its end.")
    elif streamed.works is None:
        said.append("Mixtura can be used here, though nothing shows before an answer is whole.")
    said += [sentence for sentence in map(_of_part, findings) if sentence]
    return " ".join(said) or "All that a mixture needs works here; there is nothing to set."


def _unanswered(whole: Finding, *, key: str, models: Sequence[str], elsewhere: str) -> str:
    """Return what to do where no question is answered."""
    if elsewhere:
        return f"Models are listed at {elsewhere}: use that as the base URL."
    if whole.error == "unauthorized" and whole.status == 402:
        return "The account behind the key has nothing left: add credit at the provider."
    if whole.error == "unauthorized":
        return (
            f"The key is missing or refused: set {key}." if key else "The server wants a key that it does not accept."
        )
    if whole.error == "model_gone":
        others = f" It lists {', '.join(models)}." if models else ""
        return f"The server does not have the model: name another one with --model.{others}"
    if whole.status in (404, 405):
        if models:
            return "The server lists models and takes no chat at this address: is it one for chat at all?"
        return "Nothing is served at this address: check the base URL, which most often ends with /v1."
    if whole.error == "broken_reply" and models:
        return "The server lists models, and what it answers cannot be read as a completion: its log may say why."
    if whole.outcome == "empty":
        return "The server answers with nothing: look at its log, or name another model with --model."
    return _MEND.get(whole.error, "No plain question is answered: the words of the server say why.")


def _of_part(found: Finding) -> str:
    """Return what to do about one part that does not work, "" where it does."""
    if found.works is not False:
        return ""
    match found.name, found.outcome:
        case "tools", "refused":
            return "Ask without tools here, or start the server with them; what it says tells how."
        case "tools", "failed":
            return "Ask without tools here, if what the server says does not tell how they can be had."
        case "tools", "broken_call":
            return "Ask without tools here: the server does not read the calls out of what this model writes."
        case "JSON", "refused":
            return "Ask without response_format here."
        case "JSON", "failed":
            return "Ask without response_format here, if what the server says does not tell how it can be had."
        case "JSON", "not_kept":
            return "Do not rely on response_format here: each answer is checked, and one that is not in its form fails."
        case "overflow", "unknown_words" | "failed":
            return "Keep prompts shorter than the model's context, or give its window in a file of models."
        case "overflow", "cut_silently":
            return "Give the model a longer context at the server: a long prompt loses a part of itself unsaid."
        case _:
            return ""
