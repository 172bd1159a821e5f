"""ONNX's messages, as far as the engine edits them: whatever else a file holds is kept as it is.

`protobuf` comes with ONNX Runtime, the `onnx` package does not; and loading that takes longer than loading a world.
Numbers and names of the fields are those of onnx.proto, https://github.com/onnx/onnx.
"""

from functools import cache
from typing import Any

FLOAT, INT, GRAPH, GRAPHS = 1, 2, 5, 10  # AttributeProto.AttributeType

# Field: (number, type[, repeated]). A type that begins with a capital is one of these messages.
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "ModelProto": {"graph": (7, "GraphProto", False), "opset_import": (8, "OperatorSetIdProto", True)},
    "OperatorSetIdProto": {"domain": (1, "string", False), "version": (2, "int64", False)},
    "GraphProto": {
        "node": (1, "NodeProto", True),
        "initializer": (5, "TensorProto", True),
        "input": (11, "ValueInfoProto", True),
        "output": (12, "ValueInfoProto", True),
        "value_info": (13, "ValueInfoProto", True),
    },
    "NodeProto": {
        "input": (1, "string", True),
        "output": (2, "string", True),
        "name": (3, "string", False),
        "op_type": (4, "string", False),
        "attribute": (5, "AttributeProto", True),
        "domain": (7, "string", False),
    },
    "AttributeProto": {
        "name": (1, "string", False),
        "f": (2, "float", False),
        "i": (3, "int64", False),
        "s": (4, "bytes", False),
        "ints": (8, "int64", True),
        "type": (20, "int32", False),
    },
    "TensorProto": {
        "dims": (1, "int64", True),
        "data_type": (2, "int32", False),
        "float_data": (4, "float", True),
        "int64_data": (7, "int64", True),
        "name": (8, "string", False),
        "raw_data": (9, "bytes", False),
    },
    "ValueInfoProto": {"name": (1, "string", False), "type": (2, "TypeProto", False)},
    "TypeProto": {"tensor_type": (1, "TensorTypeProto", False)},
    "TensorTypeProto": {"elem_type": (1, "int32", False), "shape": (2, "TensorShapeProto", False)},
    "TensorShapeProto": {"dim": (1, "DimensionProto", True)},
    "DimensionProto": {"dim_value": (1, "int64", False), "dim_param": (2, "string", False)},
}


def parse(model: bytes) -> Any:
    """A ModelProto, from its bytes. Raises ValueError for others, and ImportError without `protobuf`."""
    model_class, _, decode_error = _classes()
    parsed = model_class()
    try:
        parsed.ParseFromString(model)
    except decode_error as error:
        raise ValueError(f"not an ONNX model: {error}") from error
    return parsed


def new_node() -> Any:
    """An empty NodeProto."""
    return _classes()[1]()


@cache
def _classes() -> tuple[Any, Any, type[Exception]]:
    """The classes of models and nodes, and what parsing raises."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

    field_proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="diamond_onnx.proto", package="diamond_onnx", syntax="proto2"
    )
    for name, fields in _MESSAGES.items():
        kind_of = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            label = field_proto.LABEL_REPEATED if repeated else field_proto.LABEL_OPTIONAL
            if kind in _MESSAGES:
                kind_of.field.add(
                    name=field,
                    number=number,
                    label=label,
                    type=field_proto.TYPE_MESSAGE,
                    type_name=f".diamond_onnx.{kind}",
                )
            else:
                of_kind = getattr(field_proto, f"TYPE_{kind.upper()}")
                kind_of.field.add(name=field, number=number, label=label, type=of_kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    model, node = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"diamond_onnx.{name}"))
        for name in ("ModelProto", "NodeProto")
    )
    return model, node, message.DecodeError
