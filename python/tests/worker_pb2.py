"""The messages of the worker's protocol, from protobuf's own implementation: what the native one is compared with."""

import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

_FOLDER = Path(__file__).parent.parent.parent / "proto"
_FILE = "procpool/worker/v1/worker.proto"


def _load():
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "descriptors"
        code = protoc.main(["protoc", f"-I{_FOLDER}", f"--descriptor_set_out={output}", _FILE])
        assert code == 0, f"protoc can't read {_FILE}"
        files = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes()).file
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.Add(file)
    names = {}
    for file in files:
        descriptor = pool.FindFileByName(file.name)
        for name, message in descriptor.message_types_by_name.items():
            names[name] = message_factory.GetMessageClass(message)
        for enum in descriptor.enum_types_by_name.values():
            names.update((value.name, value.number) for value in enum.values)
    return names


globals().update(_load())
