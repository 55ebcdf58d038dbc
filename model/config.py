"""Hyper-parameters: what changes the result of learning, and nothing else."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.replay import ReplayKind


class ModelConfig(BaseModel):
    """How item vectors are learned and users encoded.

    One default serves a rating site and a video feed alike; the README states what it reaches
    on both. Circumstances (seed, threads) are arguments of `model.trainer.finetune`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dim: int = Field(default=128, ge=2, le=4096)
    """Dimensions d of item and user vectors."""
    context: int = Field(default=100, ge=1, le=1000)
    """Events L of a user that its vector is made of, the most recent first."""
    half_lives: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(2.0, 10.0, 50.0, 200.0), min_length=1
    )
    """Start of the position weights, one for each group of dimensions: after so many events a
    weight has halved. Then learned, as are the weights by time."""
    order_free: bool = False
    """Learn users as sets: a context is what else the user has, whenever, all at one weight; for
    events without an order, as in a static split."""
    context_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of a context's events that is left out at random while learning."""
    temperature: float = Field(default=0.12, gt=0, le=10)
    """τ of the softmax over cosines, where it starts."""
    temperature_learned: bool = True
    """Whether τ is learned with the rest, in [0.02, 1]; sparse streams with many items want a
    smaller one."""
    contrastive_weight: float = Field(default=0.0, ge=0)
    """λ_c of the contrastive alignment (CMCL) of own vectors and modalities, in pairs; 0 is off."""
    contrastive_temperature: float = Field(default=0.2, gt=0, le=10)
    """τ of that term, where it starts."""
    contrastive_temperature_learned: bool = False
    """Whether that τ is learned with the rest, in [0.02, 1]."""
    contrastive_memory: int = Field(default=0, ge=0)
    """Items of the last steps that are negatives of that term beside the batch's own."""
    transport_weight: float = Field(default=0.0, ge=0)
    """λ_w of the distribution alignment (OAT) of own vectors and each modality; 0 is off."""
    transport_level: Literal["sample", "dimension"] = "sample"
    """What is coupled: items, by a debiased divergence; or dimensions, whose coupling T also makes
    a modality's image Z·(d·T + Δ), Δ learned."""
    transport_batch: int = Field(default=512, ge=2)
    """Items a step that are coupled, at most."""
    negatives: int = Field(default=1024, ge=1)
    """Uniform negatives, shared by a batch, drawn from the items that have events."""
    batch: int = Field(default=512, ge=1)
    """Events a step; up to 8 times as many where an epoch would have more than 256 steps."""
    first_epochs: int = Field(default=4, ge=1)
    """Passes over all events when there is no version to go on from."""
    epochs: int = Field(default=2, ge=1)
    """Passes over new and replayed events in a later fine-tune."""
    rate: float = Field(default=5e-3, gt=0)
    """Adam's learning rate where all events are new; where a share of them is, times its root."""
    final_rate: float = Field(default=0.1, gt=0, le=1)
    """Share of the learning rate that is left at the last step; it falls in a straight line."""
    replay: float = Field(default=3.0, ge=0)
    """Old events replayed for each new one, drawn anew each epoch."""
    replay_kind: ReplayKind = "uniform"
    """Whether old events are replayed alike, or each octave of their age as often as another."""
    anchor_weight: float = Field(default=0.0, ge=0)
    """Weight of the mean squared move of items learned before; 0, for replay does without."""
    distillation_weight: float = Field(default=0.0, ge=0)
    """Weight of the divergence, on replayed events, from what the last version would have said; 0,
    for replay does without."""
    negative_weight: float = Field(default=0.0, ge=0)
    """How much an item counts in the softmax of an event that its user passed over shortly before,
    times its impression's weight over the event's; 0 is off."""
    negative_count: int = Field(default=8, ge=1)
    """Such items of an event, at most, the last ones."""
    start_norm: float = Field(default=0.05, gt=0)
    """Euclidean length of a new item's own vector; small, so that it turns quickly."""
    fusion: Literal["free", "simplex"] = "free"
    """How an item's parts become one vector: z = E + Σ a_m·side_m, each side at length 1 and E as
    long as it has been learned to be; or all parts at length 1, with weights that sum to 1."""
    side_scale: float = Field(default=0.5, gt=0)
    """Start of a side's weight a_m, that of the own vector being 1; then learned."""
    popularity_weight: float = Field(default=0.05, ge=0)
    """Weight of the log recent count beside the cosine in the score, until the stream says
    otherwise."""
    popularity_half_life: float = Field(default=5000.0, gt=0)
    """Positive events after which a count has halved, likewise."""
    popularity_learned: bool = True
    """Learn with that term in the score, as it stood at each event, so that the cosine need not say
    what popularity says."""
    popularity_weights: tuple[Annotated[float, Field(ge=0)], ...] = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
    """Weights that are tried on the stream."""
    popularity_half_lives: tuple[Annotated[float, Field(gt=0)], ...] = (
        *(3e2, 1e3, 3e3, 1e4, 3e4, 1e5),
    )
    """Half-lives that are tried on the stream."""
    novelty_biases: tuple[float, ...] = (-0.4, -0.3, -0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1)
    """Biases for placed items that are tried on the stream."""
    novelty_price: float = Field(default=0.02, ge=0, le=1)
    """Part of their gains that learned items pay at most for the new ones that are shown."""
    calibration_events: int = Field(default=1000, ge=0)
    """New events on which a fine-tune tries the terms of the score, at most; 0 leaves them."""
    calibration_memory: float = Field(default=5000.0, gt=0)
    """Events tried after which one counts half."""
    popularity_floor: float = Field(default=0.5, gt=0)
    """Count added to every item, so that an unseen one has a finite score."""
    layers: int = Field(default=0, ge=0, le=8)
    """Hops of propagation over the graph in the vectors served; 0, for it gains too little."""
    layer_weight: float = Field(default=0.3, ge=0)
    """Weight of each hop beside what was learned."""
    item_neighbours: int = Field(default=0, ge=0, le=1000)
    """Nearest items by text, in the item-item graph; 0 is off, for it gains too little."""
    item_heads: int = Field(default=4, ge=1)
    """Heads of the attention over them; d is a multiple."""
    user_neighbours: int = Field(default=0, ge=0, le=1000)
    """Nearest users by embedded preferences (`goat enrich`) that a user of few events starts from;
    0 is off, for it gains too little."""
    user_temperature: float = Field(default=0.1, gt=0)
    """Of the softmax over them, in units of the cosine."""
    user_half: float = Field(default=1.0, gt=0)
    """n₀: own events of a user at which the neighbours' weight has fallen to half."""
    alignment_sample: int = Field(default=512, ge=2, le=8192)
    """Items on which the ID space and a modality's are coupled in each fine-tune, at most."""
    cold_map: bool = True
    """Whether new items go where a linear map from their text says, if it explains anything of
    the items learned; else a transport plan onto these places them."""
    cold_epsilon: float = Field(default=0.05, gt=0)
    """ε of the plan that places new items, in units of the cosine of their texts."""

    @model_validator(mode="after")
    def _dimensions_divide(self) -> Self:
        if self.dim % len(self.half_lives):
            raise ValueError(
                f"{self.dim} dimensions do not divide into {len(self.half_lives)} groups, one for"
                " each half-life"
            )
        if self.item_neighbours and self.dim % self.item_heads:
            raise ValueError(
                f"{self.dim} dimensions do not divide into {self.item_heads} heads of attention"
            )
        return self
