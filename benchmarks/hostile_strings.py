r"""Strings that a grader must survive: what a model may write, and what an attacker would.

A fixed list (deep nesting, huge powers, unclosed braces, code, megabytes, control characters,
text in every script) and, from a seed, any number of random ones put together from fragments of
LaTeX, of code and of noise.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

FRAGMENTS: Final = (
    *("0", "1", "7", "12", "99999", "10000000000", "0.5", "1e999", "x", "y", "n", "e", "i", "pi"),
    *("+", "-", "*", "/", "^", "_", "=", "<", ">", "!", "|", ",", ";", ":", ".", "%", "&", "#"),
    *("(", ")", "[", "]", "{", "}", r"\{", r"\}", r"\left(", r"\right)", " ", "\n", "\t", "$"),
    *(r"\frac{", r"\frac", r"\sqrt{", r"\sqrt[", r"\binom{", "}{", r"\boxed{", r"\text{", r"\\"),
    *(r"\sum_{k=1}^{", r"\prod_{k=1}^{", r"\int_0^{", r"\lim_{x\to ", r"\log_{", r"\sin", r"\pi"),
    *(
        r"\infty",
        r"\pm",
        r"\cup",
        r"\in",
        r"\begin{pmatrix}",
        r"\end{pmatrix}",
        "^{",
        "^{9^{",
        "!!",
    ),
    *(
        "__import__",
        "eval(",
        "exec(",
        "lambda:",
        "open('",
        ".__class__",
        "os.system",
        "'",
        '"',
        "`",
    ),
    *(
        "####",
        "%s",
        "{0}",
        "{x!r}",
        "${",
        "<script>",
        "\x00",
        "\x1b[2J",
        "\x7f",
        "\ud800",
        "\u202e",
    ),
    *("\u221a", "\u00b2", "\uff11", "\u0663", "\N{GREEK SMALL LETTER PI}", "\U0001f4a3", "\u0301"),
)


def fixed(canary: Path) -> Iterator[str]:
    """Yield the fixed list; whoever evaluates one of its programs leaves `canary` behind."""
    yield from _code(canary)
    yield from _nesting()
    yield from _magnitudes()
    yield from _megabytes()
    yield from _characters()


def random_strings(count: int, seed: int = 0) -> Iterator[str]:
    """Yield so many strings of up to 24 fragments, every fourth of them repeated in depth."""
    random = Random(f"hostile/{seed}")
    for _ in range(count):
        parts = random.choices(FRAGMENTS, k=random.randint(1, 24))
        yield "".join(parts) * random.choice((1, 1, 1, random.randint(2, 12)))


def _code(canary: Path) -> Iterator[str]:
    path = str(canary)
    for program in (
        f"__import__('pathlib').Path('{path}').touch()",
        f"open('{path}','w')",
        f"exec(\"open('{path}','w')\")",
        f"eval(\"open('{path}','w')\")",
        f"(lambda:open('{path}','w'))()",
        f"__import__('os').system('touch {path}')",
        f"[c for c in ().__class__.__base__.__subclasses__() if open('{path}','w')]",
        f"1+open('{path}','w').write('1')",
        f"$(touch {path})",
        f"`touch {path}`",
        f"; touch {path} #",
        f"\\input{{|touch {path}}}",
        f"\\write18{{touch {path}}}",
        f"\\immediate\\write18{{touch {path}}}",
        f"\\text{{__import__('os').system('touch {path}')}}",
        f"\\operatorname{{open}}('{path}','w')",
        f'S(\'open("{path}","w")\')',
        f"sympify(\"open('{path}','w')\")",
    ):
        yield program
        yield f"${program}$"
        yield f"1 + {program}"
    yield from (
        "%s%s%s%n",
        "{0.__class__}",
        "{}{}{}",
        "${jndi:ldap://a}",
        "<script>alert(1)</script>",
    )


def _nesting() -> Iterator[str]:
    for depth in (10, 30, 60, 120, 10_000):
        yield "(" * depth + "1" + ")" * depth
        yield "(" * depth
        yield ")" * depth
        yield "{" * depth + "1" + "}" * depth
        yield "}" * depth
        yield r"\frac{1}{" * depth + "1" + "}" * depth
        yield r"\sqrt{" * depth + "2" + "}" * depth
        yield "2^{" * depth + "2" + "}" * depth
        yield r"\boxed{" * depth
        yield r"\boxed{" * depth + "1" + "}" * depth
        yield r"\left(" * depth
        yield "-" * depth + "1"
        yield "[" * depth + "]" * depth
        yield "|" * depth
        yield "x_{" * depth
        yield "1" + "!" * depth
        yield r"\text{" * depth


def _magnitudes() -> Iterator[str]:
    yield from (
        *("9^{9^{9^{9}}}", "9^9^9^9", "9**9**9**9", "2^{10000000000}", "2^{-10000000000}"),
        *("10000000!", "((9!)!)!", r"\binom{10000000000}{5000000000}", "1e999999999", "1E+99999"),
        *(r"\sum_{k=1}^{10000000000} \frac{1}{k^k}", r"\prod_{k=1}^{1000000000} k"),
        *(r"\int_0^{\infty} e^{-x^{x^{x}}} \sin(x^{x})dx", r"\lim_{x\to 0} \frac{x^{x^{x}}-1}{x!}"),
        *(r"\sqrt[1000000]{2^{1000001}+1}", r"\sin(10^{100000})", r"\log_{2}(3^{10000000})"),
        *("(x+y+z)^{1000}", "(1+x)^{99999}-(1+x)^{99998}", "x^{x^{x^{x^{x}}}}-1", "10^{10^{10}}+1"),
        *(r"(\sqrt{2}+\sqrt{3}+\sqrt{5}+\sqrt{7}+\sqrt{11})^{64}", r"\frac{1}{0}", "0^0", "0/0"),
        *(r"\infty-\infty", "9" * 250, "1/" + "9" * 250, "0." + "0" * 250 + "1", "9" * 100 + "!"),
        *(r"\gcd(10^{1000000},6^{1000000})", r"7^{7^{7^{7}}} \mod 10", "2^{2^{2^{2^{2^{2}}}}}"),
        *(
            "x^{100}+x^{99}+1=0",
            "x^{5}-x-1=0",
            r"\sin x = x^{17} + e^{x}",
            "x!=y!",
            "a=b=c=d=e=f=g",
        ),
        *("(1,2)" * 40, "1," * 120, r"\pm" * 60, r"1\pm1\pm1\pm1\pm1\pm1\pm1\pm1\pm1\pm1\pm1\pm1"),
        *(r"\begin{pmatrix}" + "1&" * 50 + r"1\end{pmatrix}", r"\det\begin{pmatrix}x&1\\1&x"),
    )


def _megabytes() -> Iterator[str]:
    million = 1_000_000
    yield from ("x" * million, "1" * million, " " * million, "\n" * million, "\\" * million)
    for unit in (r"\boxed{", "####", "#### ", "####\n", r"\boxed ", "{}", "}{", r"\frac{1}{2}+"):
        yield unit * (million // len(unit))
    yield "#### a" + " " * million + "b"
    yield "#### " + " \t" * (million // 2)
    yield r"\boxed" + " " * million
    yield r"\boxed{" + "{" * million + "}" * million + "}"
    yield r"\text{" * (million // 6) + "}"
    yield "1,000" * (million // 5)


def _characters() -> Iterator[str]:
    yield from (
        "",
        " ",
        "\x00",
        "\r\n",
        "\ufeff1",
        "1\u200b",
        "\ud800",
        "\udfff\ud800",
        "\U0010ffff",
    )
    yield "".join(map(chr, range(32)))
    yield "".join(map(chr, range(127, 160)))
    yield "a" + "\u0301" * 200
    yield "\u202e321\u202c"
    yield "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 20
    yield "\N{ARABIC-INDIC DIGIT ONE}\N{ARABIC-INDIC DIGIT TWO}"
    yield "\N{FULLWIDTH DIGIT ONE}/\N{FULLWIDTH DIGIT TWO}"
    yield "\u221a\u221a\u221a2\u00b2\u00b2"
    yield '["read", "1"]\n["read", "2"]'
    yield "1\n2\n3"
    yield "equal"
    yield "\u2028\u2029\u0085"
