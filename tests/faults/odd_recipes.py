"""Broken and odd recipes, made from the real ones by Hypothesis; ``recipes.py`` starts runs from them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from jaxpg.config import Config, load_recipe

CONFIGS = Path(__file__).parents[2] / "configs"
SECTIONS = {field.name: field.type for field in dataclasses.fields(Config) if dataclasses.is_dataclass(field.type)}
KEYS = [(name, field.name) for name, section in SECTIONS.items() for field in dataclasses.fields(section)]
MODULES = ["./mine.py", "mine", "~nobody/mine.py", "~/mine.py", "a\x00b.py", "\ud800.py", "/", "x" * 300 + ".py", "os"]

CARTPOLE = {"env": {"game": "CartPole-v1", "num_lanes": 4}, "observation": {"name": "vector"}}
PROBE = {"env": {"game": "Count", "backend": "probe", "num_lanes": 4}, "observation": {"name": "vector"}}
GYMNASIUM = {
    "env": {"game": "CartPole-v1", "backend": "gymnasium", "num_lanes": 4, "options": {"sutton_barto_reward": True}},
    "observation": {"name": "vector"},
}

ODD_TEXTS = [
    *(
        "",
        " ",
        "~",
        "null",
        "yes",
        "0x10",
        "1e3",
        "2020-01-01",
        "1:30",
        "--help",
        "--run.seed",
        "%(prog)s",
        "%",
        "=",
        ".",
    ),
    *(
        "..",
        "/",
        "a/b",
        "a\nb",
        "a\rb",
        "a\x1b[31mb",
        "\x00",
        "\u202e",
        "\ufeff",
        "é",
        "名前",
        "🎮",
        "\u2028",
        "\ud800",
    ),
    *("x" * 300, "x" * 20_000, "[", "{", "'", '"', "#", "&a", "*a", "!a", "$HOME", "{0}", "[red]x[/red]"),
]
NAMES = [
    *("Pong", "pong", "Breakout", "MsPacman", "Combat", "CartPole-v1", "Acrobot-v1", "Count", "Bandit"),
    *(
        "envpool",
        "ale",
        "probe",
        "gymnasium",
        "picture",
        "stack42",
        "stack84",
        "gray_difference",
        "gray_motion",
        "red_difference",
        "flat_gray",
        "vector",
        "ram",
    ),
    *("linear", "mlp", "conv3x3", "compact", "dqn2013", "nature", "reinforce", "random_search", "evolution"),
    *("adam", "rmsprop", "sgd", "lbfgs", "sm3", "cosine", "constant", "value", "batch", "ema", "total_minus_step"),
    *("reward_std", "normal", "bilinear", "clip", "signed_root"),
]
NUMBERS = [
    *(0, 1, -1, 2, 3, 7, 17, 18, 64, 255, 256, 1024, 1025, 65_535, 65_536, 65_537, 10**6, 10**7, 10**9, 10**12),
    *(2**31 - 2, 2**31 - 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63, 2**64, 10**30, 10**1000, -(2**31), -(2**63)),
    *(0.0, -0.0, 0.5, 1.0, 1.0000001, 0.1 + 0.2, 5e-324, 1e-300, 1e300, 1.7e308, -1e300, 1e-5),
    *(float("inf"), -float("inf"), float("nan")),
]
RAW_VALUES = [
    *("!!python/object/apply:os.system ['touch pwned']", "!!python/name:os.system", "!surprise Pong", "!!binary aGk="),
    *(
        "!!binary '%%%'",
        "!!int x",
        "!!float x",
        "!!bool x",
        "!!null x",
        "!!timestamp x",
        "!!set {a, b}",
        "!!omap [a: 1]",
    ),
    *(
        "!!str 3",
        "!!int 3",
        "!!float 3",
        "!!bool yes",
        "!!map [1]",
        "!!seq {a: 1}",
        "!!merge x",
        "!<> 3",
        "! 3",
        "!! 3",
    ),
    *("0o17", "017", "0b11", "0x1F", "1_000", "1__0", "+1", "1.", ".5", "1e3", "1E+3", "-.inf", ".nan", "190:20:30"),
    *(
        "2020-01-01",
        "2020-01-01T00:00:00Z",
        "2020-99-99",
        "0000-00-00",
        "9" * 400,
        "9" * 5000,
        "1e999",
        "1" + "0" * 4299,
    ),
    *(
        "&a 1",
        "*a",
        "&a [*a]",
        "{<<: {game: Pong}}",
        "{<<: 1}",
        "{<<: [1]}",
        "? x",
        "{? }",
        "[,]",
        "{,}",
        "{a}",
        "{: 1}",
    ),
    *("|\n  text", ">\n  text", "|9\n x", "'", '"', '"\\q"', '"\\x"', '"\\ud800"', "%", "@x", "`x", "- - -", "a: b: c"),
    *(
        "{1: 2}",
        "{null: 1}",
        "{true: 1}",
        "{[1]: 2}",
        "{{a: 1}: 2}",
        "{1.5: 1}",
        "[[[[[[]]]]]]",
        "\t1",
        "#",
        "{a: 1, a: 2}",
    ),
    *("[" * 300 + "]" * 300, "{a: " * 300, "[" * 50 + "]" * 50, "{e-ps: 1, e_ps: 1}", "{eps: 1, b1: 2}", "{eps: {}}"),
]
WHOLE = [
    *(
        b"",
        b"\n",
        b"#",
        b"---",
        b"...",
        b"--- 1\n--- 2",
        b"%YAML 1.1\n---\nenv: {num_lanes: 010}",
        b"%YAML 9.9\n---\n{}",
    ),
    *(
        b"%TAG ! tag:x,2000:\n---\nenv: !foo {}",
        b"%FOO\n---\n{}",
        b"\xff\xfe",
        b"\xef\xbb\xbfenv: {}",
        b"\x00",
        b"\x80",
    ),
    *("env: {}".encode("utf-16"), "env: {}".encode("utf-32"), b"\x7fELF", b"PK\x03\x04", b"null", b"[]", b"1", b"''"),
    *(
        b"env: &a {game: Pong}\nrun: *a",
        b"&a a: 1\n&a b: 2",
        b"? env\n: {}",
        b"? [env]\n: 1",
        b"env:\r\n  game: Pong\r\n",
    ),
    *(b"env:\r  game: Pong\r", b"<<: {env: {game: Pong}}", b"<<: 1", b"- env", b"env", b"!!python/object:os.system {}"),
    *(b"%YAML 1.1\n---\noptimizer: {learning_rate: 1e-3}", b"a: &x 1\nb: &x 2", b"{" * 2000, b"[" * 2000, b"- " * 2000),
    *(
        b"? " * 2000,
        b"a: " * 500,
        b"x" * 100_001,
        b"policy: {hidden: [" + b"1," * 5000 + b"]}",
        b"!!set {env}",
        b"!!omap []",
    ),
]

odd_text = st.one_of(st.sampled_from(ODD_TEXTS), st.sampled_from(NAMES), st.text(max_size=20))
number = st.one_of(st.sampled_from(NUMBERS), st.integers(), st.floats(), st.integers(1, 40))
scalar = st.one_of(number, odd_text, st.booleans(), st.none())
tree = st.recursive(
    scalar,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(odd_text, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def key(draw, name: str) -> str:
    """A name with a slip in it."""
    match draw(st.integers(0, 5)):
        case 0:
            return draw(odd_text)
        case 1:
            return name.replace("_", "-") if "_" in name else name.upper()
        case 2:
            return draw(st.sampled_from([k for _, k in KEYS] + list(SECTIONS)))
        case 3:
            i = draw(st.integers(0, len(name) - 1))
            return name[:i] + name[i + 1 :]
        case 4:
            i = draw(st.integers(0, len(name) - 1))
            return name[:i] + draw(st.characters()) + name[i:]
        case _:
            return f" {name} "


def _value(name: str, default: Any) -> st.SearchStrategy[Any]:
    """Values for one field, most of them of its own type."""
    if isinstance(default, bool):
        own: st.SearchStrategy[Any] = st.booleans()
    elif isinstance(default, int | float) or name == "target_return":
        own = number | st.floats(0, 1) | st.integers(0, 64)
    elif isinstance(default, str):
        own = odd_text
    elif isinstance(default, tuple):
        own = st.lists(number | st.integers(0, 5), max_size=4) | st.just([1] * 5000) | st.just([65_536] * 4)
    else:
        own = st.dictionaries(
            st.sampled_from(["eps", "b1", "momentum", "mask", "e_ps", "e-ps"]) | odd_text, number, max_size=3
        )
    return st.one_of(own, own, own, tree)


_DEFAULTS = dataclasses.asdict(Config())


def _bases() -> list[dict[str, Any]]:
    recipes = sorted(CONFIGS.rglob("*.yaml"))
    real = [json.loads(json.dumps(dataclasses.asdict(load_recipe(path)))) for path in recipes]
    return [CARTPOLE, PROBE, GYMNASIUM, CARTPOLE, PROBE, GYMNASIUM, {}, *real]


@st.composite
def mutated(draw, bases: list[dict[str, Any]]) -> bytes:
    """A real recipe with one to three things changed, as YAML (of which JSON is a part) in one of several styles."""
    data = json.loads(json.dumps(draw(st.sampled_from(bases))))
    raw: dict[str, str] = {}
    for _ in range(draw(st.integers(1, 3))):
        section, name = draw(st.sampled_from(KEYS))
        target = data.setdefault(section, {})
        if not isinstance(target, dict):
            continue
        match draw(st.integers(0, 9)):
            case 0:
                data[draw(key(section))] = data.pop(section)
            case 1:
                target[draw(key(name))] = draw(_value(name, _DEFAULTS[section][name]))
            case 2:
                data[section] = draw(tree)
            case 9:
                data["imports"] = draw(st.lists(st.sampled_from(MODULES) | odd_text, max_size=3) | tree)
            case 3:  # a value that only YAML can say
                mark = f"@{len(raw)}@"
                raw[json.dumps(mark)] = draw(st.sampled_from(RAW_VALUES))
                target[name] = mark
            case _:
                target[name] = draw(_value(name, _DEFAULTS[section][name]))
    text = _yaml(data, block=draw(st.booleans()))
    for mark, value in raw.items():
        text = text.replace(mark, value)
    return text.encode("utf-8", "surrogatepass")


def _yaml(data: dict[str, Any], *, block: bool) -> str:
    text = json.dumps(data, ensure_ascii=False)
    for python, yaml in (("-Infinity", "-.inf"), ("Infinity", ".inf"), ("NaN", ".nan")):
        text = text.replace(python, yaml)
    if not block or not all(isinstance(section, dict) for section in data.values()):
        return text
    lines = []
    for name, section in data.items():
        lines.append(f"{json.dumps(name, ensure_ascii=False)}:{'' if section else ' {}'}")
        lines += [f"  {_yaml({k: v}, block=False)[1:-1]}" for k, v in section.items()]
    return "\n".join(lines) + "\n"


@st.composite
def damaged(draw, bases: list[dict[str, Any]]) -> bytes:
    """A real recipe's text with bytes cut out, put in, or doubled."""
    text = _yaml(draw(st.sampled_from(bases)), block=True).encode()
    for _ in range(draw(st.integers(1, 3))):
        i = draw(st.integers(0, len(text)))
        j = min(len(text), i + draw(st.integers(0, 30)))
        match draw(st.integers(0, 4)):
            case 0:
                text = text[:i] + text[j:]
            case 1:
                text = text[:i] + draw(st.binary(min_size=1, max_size=8)) + text[i:]
            case 2:
                text = text[:j] + text[i:j] + text[j:]
            case 3:
                odd = [
                    b"\t",
                    b"\x00",
                    b"\xff",
                    b"&a ",
                    b"*a ",
                    b"!!x ",
                    b"? ",
                    b"- ",
                    b": ",
                    b"|\n",
                    b"\xe2\x80\xa8",
                    b"\xc2\x85",
                ]
                text = text[:i] + draw(st.sampled_from(odd)) + text[i:]
            case _:
                text = text[i:] + text[:i]
    return text


def recipes() -> st.SearchStrategy[bytes]:
    """All kinds of recipes, as the bytes of a file."""
    bases = _bases()
    return st.one_of(
        mutated(bases),
        mutated(bases),
        mutated(bases),
        mutated(bases),
        damaged(bases),
        st.sampled_from(WHOLE),
        st.binary(max_size=60),
    )
