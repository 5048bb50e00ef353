"""Reads, writes and watches through stubs that grpcio-tools makes from Tidewatch's .proto files.

Usage: generated_stubs.py HOST:PORT
"""

import queue
import sys

import grpc
from etcd import kv_pb2, kv_pb2_grpc, lease_pb2, lease_pb2_grpc, mvcc_pb2, watch_pb2, watch_pb2_grpc

# How long a call may take, in seconds; a stream as long as the program.
CALL_SECONDS = 10
STREAM_SECONDS = 60

PREFIX = b"/examples/stubs/"
# The key after the last one with the prefix: its last byte, plus one.
PREFIX_END = b"/examples/stubs0"


def watch(channel, start_revision):
    """Responses to one watch of the prefix; what is put into the queue is asked of the server."""
    asked = queue.Queue()
    create = watch_pb2.WatchCreateRequest(
        key=PREFIX, range_end=PREFIX_END, start_revision=start_revision, prev_kv=True
    )
    asked.put(watch_pb2.WatchRequest(create_request=create))
    stream = watch_pb2_grpc.WatchStub(channel).Watch(iter(asked.get, None), timeout=STREAM_SECONDS)
    return asked, stream


def main(endpoint):
    with grpc.insecure_channel(endpoint) as channel:
        kv = kv_pb2_grpc.KVStub(channel)
        lease = lease_pb2_grpc.LeaseStub(channel)

        kv.DeleteRange(kv_pb2.DeleteRangeRequest(key=PREFIX, range_end=PREFIX_END), timeout=CALL_SECONDS)
        first = kv.Put(kv_pb2.PutRequest(key=PREFIX + b"a", value=b"1"), timeout=CALL_SECONDS)
        start = first.header.revision
        kv.Put(kv_pb2.PutRequest(key=PREFIX + b"a", value=b"2"), timeout=CALL_SECONDS)
        found = kv.Range(kv_pb2.RangeRequest(key=PREFIX, range_end=PREFIX_END), timeout=CALL_SECONDS)
        assert [(kv.key, kv.value, kv.version) for kv in found.kvs] == [(PREFIX + b"a", b"2", 2)], found
        then = kv.Range(kv_pb2.RangeRequest(key=PREFIX + b"a", revision=start), timeout=CALL_SECONDS)
        assert then.kvs[0].value == b"1", then

        # Only who finds the key as it was may change it.
        unchanged = kv_pb2.Compare(
            result=kv_pb2.Compare.EQUAL,
            target=kv_pb2.Compare.MOD,
            key=PREFIX + b"a",
            mod_revision=found.kvs[0].mod_revision,
        )
        change = kv_pb2.RequestOp(request_put=kv_pb2.PutRequest(key=PREFIX + b"a", value=b"3"))
        swap = kv_pb2.TxnRequest(compare=[unchanged], success=[change])
        assert kv.Txn(swap, timeout=CALL_SECONDS).succeeded
        assert not kv.Txn(swap, timeout=CALL_SECONDS).succeeded

        # A key that goes with its lease.
        granted = lease.LeaseGrant(lease_pb2.LeaseGrantRequest(TTL=60), timeout=CALL_SECONDS)
        kv.Put(kv_pb2.PutRequest(key=PREFIX + b"leased", value=b"x", lease=granted.ID), timeout=CALL_SECONDS)
        lease.LeaseRevoke(lease_pb2.LeaseRevokeRequest(ID=granted.ID), timeout=CALL_SECONDS)

        # Everything since the first put: nothing is missed, whenever one begins.
        asked, responses = watch(channel, start)
        seen = []
        while len(seen) < 5:
            response = next(responses)
            assert not response.canceled, response
            seen += [(mvcc_pb2.Event.EventType.Name(event.type), event.kv, event.prev_kv) for event in response.events]
        for kind, entry, before in seen:
            print(entry.mod_revision, kind, entry.key.decode(), entry.value.decode(), "before:", before.value.decode())
        assert [(kind, entry.value, before.value) for kind, entry, before in seen] == [
            ("PUT", b"1", b""),
            ("PUT", b"2", b"1"),
            ("PUT", b"3", b"2"),
            ("PUT", b"x", b""),
            ("DELETE", b"", b"x"),
        ], seen
        asked.put(None)
        responses.cancel()

        try:
            kv.Range(kv_pb2.RangeRequest(key=PREFIX, revision=start + 1000), timeout=CALL_SECONDS)
            raise AssertionError("the future was read")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.OUT_OF_RANGE, error
            print("as it should be:", error.details())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
