"""The routes of the HTTP API: each takes a request apart, asks, and puts the answer together.

They are plain functions, which the framework runs in threads: what they wait for is the index, by a
client that is not asynchronous, and NumPy. All of them hold the deadline that began at arrival.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Annotated, Any

import msgspec
from fastapi import Body, Header, Path, Query, Request
from pydantic import StrictBool
from starlette.responses import Response

from consumers.api_answers import answer_value
from consumers.api_requests import MOST_K, BatchRequest, CandidatesRequest
from consumers.asking import Answer, Wish
from consumers.breaker import Breaker
from consumers.follower import Follower
from consumers.index import Conditions, to_rfc3339
from consumers.intake import Intake
from consumers.ladder import Ladder
from consumers.lane import About, Short
from consumers.problems import FieldError, Problem
from consumers.profiles import LatestProfiles
from consumers.readiness import Readiness
from consumers.served import ServedLog
from consumers.serving_metrics import ServingMetrics
from consumers.world import World
from stream.deadline import Deadline
from stream.events import Id

MOST_EVENTS = 1_000
HISTORY = 100
KEY_CHARACTERS = 255

ItemId = Annotated[Id, Path(examples=["sku-9"])]
UserId = Annotated[Id, Path(examples=["u-17"])]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=KEY_CHARACTERS,
        description="The same request under the same key is sent once",
    ),
]


@dataclass(frozen=True, slots=True)
class Routes:
    """All routes, over the parts that answer them.

    Parameters
    ----------
    events_deadline_s : float
        How long events may take to arrive in the topic, seconds.
    """

    follower: Follower
    ladder: Ladder
    served: ServedLog
    intake: Intake
    readiness: Readiness
    metrics: ServingMetrics
    breaker: Breaker
    profiles: LatestProfiles
    events_deadline_s: float

    def candidates(self, request: Request, body: CandidatesRequest) -> Response:
        """Candidates for a user, for recent items, or for a context."""
        return self.one_list(body, About.of(request.scope))

    def batch(self, request: Request, body: BatchRequest) -> Response:
        """Several lists under one deadline, with one call of the index."""
        return self.many_lists(body, About.of(request.scope))

    def short(self) -> Mapping[str, Short]:
        """The routes above, for `consumers.lane.Lane`."""
        return {
            "/v1/candidates": Short(CandidatesRequest, self.one_list),
            "/v1/candidates/batch": Short(BatchRequest, self.many_lists),
        }

    def one_list(self, asked: CandidatesRequest, about: About) -> Response:
        """Answer one request by its deadline."""
        [answer] = self._answered([asked.wish(about.request_id)], about.deadline)
        return _json(answer_value(answer))

    def many_lists(self, asked: BatchRequest, about: About) -> Response:
        """Answer several by one deadline; each has an id of its own."""
        own = (f"{about.request_id}-{n}" for n in count(1))
        wishes = [one.wish(name) for one, name in zip(asked.requests, own, strict=False)]
        answers = self._answered(wishes, about.deadline)
        return _json({"answers": [answer_value(answer) for answer in answers]})

    def similar(
        self,
        request: Request,
        item_id: ItemId,
        k: Annotated[int, Query(ge=1, le=MOST_K)] = 20,
        category: Annotated[list[Id] | None, Query(max_length=64)] = None,
    ) -> Response:
        """Items like this one, by what was learned of both; popularity does not count."""
        with self.follower.reading() as world:
            if world is not None and world.number(item_id) < 0:
                raise Problem(404, "item-unknown", f"nothing is known of the item {item_id!r:.80}")
        wanted = tuple(category) if category else None
        wish = Wish(
            k=k,
            similar_to=item_id,
            conditions=Conditions(categories=wanted),
            request_id=request.state.request_id,
        )
        [answer] = self._answered([wish], request.state.deadline)
        return _json(answer_value(answer))

    def user(self, user_id: UserId) -> Response:
        """What is held of a user."""
        with self.follower.reading() as world:
            known = None if world is None else world.user(user_id)
            if world is None or known is None:
                raise Problem(404, "user-unknown", f"nothing is known of the user {user_id!r:.80}")
            rows = zip(known.history[:HISTORY].tolist(), known.time_us.tolist(), strict=False)
            history = [_did(world, item, at) for item, at in rows]
            version = world.live.version
        return _json(
            {
                "user_id": user_id,
                "version": version,
                "events": len(known.history),
                "has_vector": known.folded,
                "history": history,
                "preferences": self.profiles.of(user_id),
            }
        )

    def events(
        self, request: Request, body: Annotated[Any, Body()], idempotency_key: Key = None
    ) -> Response:
        """Send an event, or a list of them, into the topic; they have arrived when it answers."""
        events: Sequence[Any] = body if isinstance(body, list) else [body]
        if not 0 < len(events) <= MOST_EVENTS:
            detail = f"{len(events)} events, 1 to {MOST_EVENTS:,} at a time"
            raise Problem(422, "invalid-events", detail)
        deadline = Deadline.after(self.events_deadline_s)
        accepted = self.intake.take(events, request.state.key, idempotency_key, deadline)
        self.metrics.events.inc(accepted)
        return _json({"accepted": accepted}, 202)

    def version(self) -> Response:
        """What is served, and how far it is."""
        published = self.follower.published
        value: dict[str, Any] = {
            "version": 0,
            "collection": None,
            "published": None if published is None else published.version,
            "snapshot": None,
            "positions": {},
            "lag_messages": self.follower.lag,
        }
        with self.follower.reading() as world:
            if world is not None:
                value["version"], value["snapshot"] = world.live.version, world.snapshot
                value["collection"] = None if world.pair is None else world.pair.items
                value["positions"] = {str(p): n for p, n in world.state.positions.items()}
        return _json(value)

    def health(self) -> Response:
        """Whether the process answers at all."""
        return _json({"alive": True})

    def ready(self, request: Request) -> Response:
        """Whether the state is restored, the index agrees with the manifest, and lag is small."""
        reasons = self.readiness.reasons(request.state.deadline)
        if reasons:
            errors = [FieldError(at="server", message=r, reason="not-ready") for r in reasons]
            raise Problem(503, "not-ready", "; ".join(reasons), errors=errors)
        return _json({"ready": True})

    def figures(self) -> Response:
        """Figures for Prometheus."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def hold(self, asked: Annotated[StrictBool, Body(embed=True)]) -> Response:
        """Have the index not asked, or asked again: lists come from memory and popularity."""
        self.breaker.held = not asked
        return _json({"asked": asked})

    def _answered(self, wishes: Sequence[Wish], deadline: Deadline) -> list[Answer]:
        answers = self.ladder.answer(wishes, deadline)
        self.served.put([answer for answer in answers if answer.wish.recorded])
        for answer in answers:
            self.metrics.note(answer)
        return answers


def _did(world: World, item: int, at_us: int) -> dict[str, Any]:
    name = world.graph.items.name(item)
    facts = world.facts(name)
    title = {"title": facts.title} if facts is not None and facts.title else {}
    return {"item_id": name, **title, "occurred_at": to_rfc3339(at_us)}


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
