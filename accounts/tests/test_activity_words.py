"""Every action that the code writes into the trail has words on the activity page."""

import ast
from collections.abc import Iterator
from pathlib import Path

from accounts.activity import known_actions

ROOT = Path(__file__).resolve().parent.parent.parent
APPS = ("accounts", "devices", "events", "media", "onboarding", "portal")

type Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for app in APPS:
        for path in sorted((ROOT / app).rglob("*.py")):
            text = path.read_text()
            if "audit(" in text and not {"tests", "migrations"} & set(path.relative_to(ROOT).parts):
                yield path, ast.parse(text)


def calls_of(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name in (
            getattr(node.func, "id", ""),
            getattr(node.func, "attr", ""),
        ):
            yield node


def values(expression: ast.expr, function: Function | None, module: ast.Module) -> set[str]:
    """The strings an expression may stand for: written out, chosen between, assigned, looked up, or handed in."""
    match expression:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.IfExp(body=first, orelse=second):
            return values(first, function, module) | values(second, function, module)
        case ast.Dict(values=entries):
            return set[str]().union(*(values(entry, function, module) for entry in entries))
        case ast.Subscript(value=ast.Name(id=name)):
            return assigned(name, module, None, module)
        case ast.Name(id=name):
            found = assigned(name, function or module, function, module)
            return found or (handed_in(name, function, module) if function else set())
    return set()


def assigned(name: str, where: ast.AST, function: Function | None, module: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(where):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            found |= values(node.value, function, module)
    return found


def handed_in(name: str, function: Function, module: ast.Module) -> set[str]:
    positions = [argument.arg for argument in function.args.args]
    found: set[str] = set()
    for call in calls_of(module, function.name):
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        argument = given.get(name)
        if argument is None and name in positions and positions.index(name) < len(call.args):
            argument = call.args[positions.index(name)]
        if argument is not None:
            found |= values(argument, None, module)
    return found


def written_actions() -> dict[str, set[str]]:
    """What each call of `audit()` may write, by where it stands."""
    found: dict[str, set[str]] = {}
    for path, module in sources():
        calls = list(calls_of(module, "audit"))
        functions = [node for node in ast.walk(module) if calls and isinstance(node, Function.__value__)]
        for call in calls:
            within = [function for function in functions if call in ast.walk(function)]
            action = next((keyword.value for keyword in call.keywords if keyword.arg == "action"), None)
            place = f"{path.relative_to(ROOT)}:{call.lineno}"
            found[place] = values(action, within[-1] if within else None, module) if action else set()
    return found


def test_every_action_is_found_in_the_source():
    written = written_actions()

    assert len(written) > 40
    assert [place for place, actions in written.items() if not actions] == []


def test_every_action_has_words():
    known = {action for action, _ in known_actions()}

    speechless = {
        f"{action} ({place})"
        for place, actions in written_actions().items()
        for action in actions
        if action not in known
    }

    assert speechless == set()
