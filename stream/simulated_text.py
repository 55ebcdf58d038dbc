"""Words for simulated items, so that candidates can be read and texts carry the topic."""

from dataclasses import dataclass
from typing import Final

import numpy as np


@dataclass(frozen=True, slots=True)
class Topic:
    """What a group of items is about."""

    name: str
    things: tuple[str, ...]
    traits: tuple[str, ...]
    uses: tuple[str, ...]


def _topic(name: str, things: str, traits: str, uses: str) -> Topic:
    return Topic(
        name, tuple(things.split(", ")), tuple(traits.split(", ")), tuple(uses.split(", "))
    )


TOPICS: Final = (
    _topic("running", "trail shoes, racing vest, running socks, split shorts, hydration belt",
           "lightweight, breathable, cushioned, grippy", "marathons, muddy trails, morning runs"),
    _topic("coffee", "espresso machine, burr grinder, pour-over kettle, milk frother, moka pot",
           "quiet, precise, stainless, compact", "flat whites, single origins, slow mornings"),
    _topic("gardening", "pruning shears, raised bed, seed tray, watering can, compost bin",
           "sturdy, rust-free, cedar, drip-free", "tomatoes, balcony herbs, rose hedges"),
    _topic("photography", "prime lens, carbon tripod, camera strap, light meter, flash diffuser",
           "sharp, weather-sealed, fast, silent", "portraits, night skies, street scenes"),
    _topic("cycling", "gravel wheelset, bike computer, bib shorts, disc brake, frame bag",
           "aerodynamic, tubeless, reflective, stiff", "alpine passes, commutes, bikepacking"),
    _topic("baking", "bread tin, stand mixer, proofing basket, pastry brush, pizza stone",
           "non-stick, heavy, even-heating, floured", "sourdough, croissants, birthday cakes"),
    _topic("board games", "card sleeves, strategy game, dice tower, puzzle box, game mat",
           "cooperative, wooden, illustrated, quick", "game nights, family holidays, duels"),
    _topic("music", "studio headphones, audio interface, guitar strings, drum pad, turntable",
           "warm, balanced, low-latency, vintage", "home recording, vinyl evenings, practice"),
    _topic("camping", "two-person tent, down quilt, gas stove, headlamp, dry bag",
           "waterproof, packable, windproof, warm", "ridge camps, canoe trips, festivals"),
    _topic("yoga", "cork mat, meditation cushion, foam roller, yoga strap, balance block",
           "non-slip, natural, soft, supportive", "sun salutations, recovery, breathing"),
    _topic("pets", "dog harness, scratching post, cat fountain, chew toy, travel crate",
           "padded, durable, washable, quiet", "puppies, long walks, indoor cats"),
    _topic("astronomy", "telescope, star atlas, eyepiece set, equatorial mount, moon filter",
           "clear, motorised, wide-field, portable", "planets, nebulae, dark-sky weekends"),
    _topic("woodwork", "chisel set, dovetail saw, workbench, hand plane, bar clamp",
           "honed, balanced, hardened, precise", "drawers, guitar bodies, garden chairs"),
    _topic("skin care", "face serum, mineral sunscreen, clay mask, night cream, lip balm",
           "fragrance-free, gentle, hydrating, vegan", "dry winters, beach days, sensitive skin"),
    _topic("toys", "wooden train, building bricks, plush bear, marble run, doll house",
           "colourful, hand-painted, safe, stackable", "toddlers, rainy days, imagination"),
    _topic("home office", "standing desk, monitor arm, ergonomic chair, desk lamp, keyboard",
           "adjustable, silent, minimal, robust", "video calls, deep focus, small rooms"),
)  # fmt: skip
_MAKERS: Final = (
    "Alder",
    "Brisk",
    "Cobalt",
    "Drift",
    "Ember",
    "Fjord",
    "Grove",
    "Halo",
    "Iris",
    "Juno",
)


def describe(topic: int, rng: np.random.Generator) -> tuple[str, str]:
    """Make up a title and a description for an item of this topic."""
    about = TOPICS[topic]
    thing, trait, other, use, maker = (
        words[int(rng.integers(len(words)))]
        for words in (about.things, about.traits, about.traits, about.uses, _MAKERS)
    )
    title = f"{maker} {trait} {thing}"
    also = f" and {other}" if other != trait else ""
    return title, f"A {trait}{also} {thing} by {maker}, made for {use}. {about.name.capitalize()}."
