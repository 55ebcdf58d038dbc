"""Another client library's producer, as the tests send with it."""

from confluent_kafka import Producer


def producer_of(bootstrap: str, **options: object) -> Producer:
    """One whose messages stay in their order, also when some of them have to be sent again.

    A topic that has just been made is unknown at its broker for a moment, so this happens.
    """
    settings = {name.replace("_", "."): value for name, value in options.items()}
    quiet = {"bootstrap.servers": bootstrap, "log_level": 0}
    return Producer({**quiet, "enable.idempotence": True, **settings})
