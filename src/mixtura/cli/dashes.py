"""Words of a command line that begin with a dash and are no options, as a question may: a list, a minus sign."""

from collections.abc import Mapping, Sequence

import click


def sorted_out(ctx: click.Context, args: Sequence[str]) -> list[str]:
    """Return the arguments of a verb with the words that only look like options behind `--`.

    A word that holds white space is no option, but for `--name=value`. Everything else that begins with a dash is.

    Args:
        ctx: the verb's context.
        args: what follows the verb.

    Raises:
        click.UsageError: a word can be an option together with its value, and a question, or an option is unknown;
            the text names `--`.
    """
    takes = {
        name: not (option.is_flag or option.count)
        for option in ctx.command.get_params(ctx)
        if isinstance(option, click.Option)
        for name in (*option.opts, *option.secondary_opts)
    }
    options, words, rest = list[str](), list[str](), list(args)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        if not word.startswith("-") or word == "-" or _is_text(word, takes, ctx):
            words.append(word)
            continue
        options.append(word)
        if _takes_next(word, takes, ctx) and rest:
            options.append(rest.pop(0))
    return [*options, "--", *words] if any(word.startswith("-") for word in words) else list(args)


def _is_text(word: str, takes: Mapping[str, bool], ctx: click.Context) -> bool:
    """Say whether a word that begins with a dash is no option."""
    first = word.split(maxsplit=1)[0]
    name, equals, _ = word.partition("=")
    if first == word or (equals and name in takes):
        return False
    option = first if word.startswith("--") else _valued(first, takes)
    if takes.get(option):
        raise click.UsageError(
            f"{_short(word)!r} can be the option {option} with a value, and a text that begins with a dash: give "
            f"{option} its value as a word of its own, or write -- before the text",
            ctx,
        )
    return True


def _takes_next(word: str, takes: Mapping[str, bool], ctx: click.Context) -> bool:
    """Say whether the next word is the value of this one."""
    if word.startswith("--"):
        return takes.get(word, False)  # an unknown one is refused by click, which says what is near
    option = _valued(word, takes)
    if not option and any(f"-{letter}" not in takes for letter in word[1:]):
        raise click.NoSuchOption(word, possibilities=takes, ctx=ctx)
    return bool(option) and word.index(option[1]) == len(word) - 1


def _valued(word: str, takes: Mapping[str, bool]) -> str:
    """Return the option in letters behind one dash that takes a value; "" without one, or behind an unknown letter."""
    for letter in word[1:]:
        if takes.get(f"-{letter}", True):
            return f"-{letter}" if f"-{letter}" in takes else ""
    return ""


def _short(word: str) -> str:
    line = " ".join(word.split())
    return line if len(line) <= 40 else f"{line[:39]}…"


def sentence(error: click.UsageError) -> str:
    """Return what is wrong with a command line; of an unknown option also what to do where it was meant as text."""
    said = error.format_message()
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return said
    command = error.ctx.command
    hint = ""
    if isinstance(command, click.Group):
        hint = "" if error.ctx.parent else "; a question follows a command: mixtura ask -- '- ...'"
    elif any(isinstance(param, click.Argument) for param in command.params):
        hint = "; write -- before what begins with a dash and is no option"
    # Before the options that are near, which click adds.
    return said.replace(error.message, f"{error.message.rstrip('.')}{hint}.", 1)
