"""Ask a mixture one question.

The toys are real models inside this process that solve arithmetic word problems and nothing else; they need
`pip install 'mixtura[local]'` and no key. With GROQ_API_KEY set, `Mixture("balanced")` asks large models anything.
"""

import asyncio

from mixtura import Mixture

QUESTION = "Ada has 125 apples. Then she buys 317 more. How many apples does Ada have now?"


async def main() -> None:
    """Ask, and print what came of it."""
    answer = await Mixture("toy").ask(QUESTION)
    for draft in answer.drafts:
        print(f"{draft.model} drafted {draft.choice}")
    print(f"The mixture ({answer.status}, {answer.n_calls} calls) answers:")
    print(answer.text)


if __name__ == "__main__":
    asyncio.run(main())
