"""After a crash: the manifest says what is live, and the index is made to agree."""

from consumers.errors import PublishError
from consumers.index import Names, VectorIndex
from consumers.manifest_steps import Collections
from consumers.publications import Publications


def wanted_aliases(names: Names, pair: Collections | None) -> dict[str, str | None]:
    """Say where both aliases should point; nowhere when nothing is live."""
    return {
        names.items: None if pair is None else pair.items,
        names.users: None if pair is None else pair.users,
    }


def flip(
    index: VectorIndex, names: Names, live: Collections | None, pair: Collections
) -> dict[str, str]:
    """Point both aliases at a pair; what is read back.

    Raises
    ------
    PublishError
        If it did not take; they point at the live pair again then.
    """
    wanted = wanted_aliases(names, pair)
    try:
        index.point(wanted)
    except PublishError:
        index.point(wanted_aliases(names, live))
        raise
    return {a: c for a, c in index.aliases().items() if a in wanted}


def lost(index: VectorIndex, state: Publications) -> list[str]:
    """Name the collections of each kept pair of which the index lacks one."""
    present = set(index.collections())
    pairs = [{pair.items, pair.users} for pair in state.kept]
    return sorted(set[str]().union(*(pair for pair in pairs if not pair <= present)))


def restore_aliases(
    index: VectorIndex, names: Names, state: Publications, known: set[str], manifest: str
) -> None:
    """Point both aliases at what the manifest says is live, if a crash left them elsewhere.

    Parameters
    ----------
    known : names of collections that were ours when the index was opened
    manifest : str
        Named in the error.

    Raises
    ------
    PublishError
        If they point at collections that are not ours: another deployment's, or our manifest is
        lost. Nothing is changed then.
    """
    found = {a: c for a, c in index.aliases().items() if a in (names.items, names.users)}
    wanted = wanted_aliases(names, state.live)
    if all(found.get(alias) == target for alias, target in wanted.items()):
        return
    foreign = {alias: target for alias, target in found.items() if target not in known}
    if foreign:
        raise PublishError(
            f"{foreign} is what aliases point at, but {manifest} says {wanted}: another system "
            "publishes there, or this manifest is not the one that belongs to it. Restore that, "
            "publish under another --collection, or remove the aliases"
        )
    index.point(wanted)
