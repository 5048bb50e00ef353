"""Reads, writes and watches with PyPI's etcd3.

Usage: with_etcd3.py HOST:PORT
"""

import sys

import etcd3

PREFIX = "/examples/etcd3/"

# How long a call may take, in seconds.
CALL_SECONDS = 10


def main(endpoint):
    host, port = endpoint.rsplit(":", 1)
    client = etcd3.client(host=host, port=int(port), timeout=CALL_SECONDS)
    client.delete_prefix(PREFIX)

    start = client.put(PREFIX + "a", "1").header.revision
    value, entry = client.get(PREFIX + "a")
    assert (value, entry.version) == (b"1", 1), (value, entry)
    assert client.replace(PREFIX + "a", "1", "2")
    assert not client.replace(PREFIX + "a", "1", "3")
    assert client.put_if_not_exists(PREFIX + "b", "new")
    assert not client.put_if_not_exists(PREFIX + "b", "newer")
    assert [entry.key.decode() for _, entry in client.get_prefix(PREFIX)] == [PREFIX + "a", PREFIX + "b"]

    succeeded, _ = client.transaction(
        compare=[client.transactions.version(PREFIX + "b") > 0],
        success=[client.transactions.put(PREFIX + "c", "x"), client.transactions.delete(PREFIX + "b")],
        failure=[],
    )
    assert succeeded

    lease = client.lease(60)
    client.put(PREFIX + "leased", "y", lease=lease)
    assert lease.remaining_ttl > 0
    lease.revoke()

    events, cancel = client.watch_prefix(PREFIX, start_revision=start)
    seen = []
    for event in events:
        seen.append((type(event).__name__, event.key.decode().removeprefix(PREFIX), event.value))
        print(event.mod_revision, *seen[-1])
        if len(seen) == 7:
            break
    cancel()
    assert seen == [
        ("PutEvent", "a", b"1"),
        ("PutEvent", "a", b"2"),
        ("PutEvent", "b", b"new"),
        ("PutEvent", "c", b"x"),
        ("DeleteEvent", "b", b""),
        ("PutEvent", "leased", b"y"),
        ("DeleteEvent", "leased", b""),
    ], seen

    # A lock is a key under a lease, with calls that are all there.
    with client.lock("examples", ttl=20) as lock:
        assert lock.is_acquired()
    client.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
