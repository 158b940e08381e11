"""Names of vLLM's engine arguments, read off its source.

Importing vLLM takes ten seconds and more, and here it would be too early: its environment variables
are not set yet, and some are read when it is imported.
"""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

SOURCE = Path("engine/arg_utils.py")
CLASSES = ("EngineArgs", "AsyncEngineArgs")
"""The second has the fields of the first."""


def known_arguments() -> frozenset[str]:
    """Of every engine argument of the installed vLLM. Raises ModuleNotFoundError and OSError."""
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("vLLM is not installed.", name="vllm")
    tree = ast.parse((Path(spec.origin).parent / SOURCE).read_bytes())
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef))
    return frozenset(name for each in classes if each.name in CLASSES for name in fields(each))


def fields(dataclass: ast.ClassDef) -> Iterator[str]:
    """Annotated names, but for those of the class itself."""
    for node in dataclass.body:
        match node:
            case ast.AnnAssign(target=ast.Name(name), annotation=annotation):
                if not ast.unparse(annotation).startswith("ClassVar"):
                    yield name
