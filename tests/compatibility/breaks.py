"""What a newer contract took away from, or changed in, an older one."""

from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

PACKAGE = "recollect.v1"


def breaks(old: FileDescriptorSet, new: FileDescriptorSet) -> list[str]:
    """Return what of `old` is not in `new` as it was, a line each; additions are none."""
    before, after = _facts(old), _facts(new)
    return [
        f"{name}: was {what}, is {after.get(name, 'gone')}"
        for name, what in before.items()
        if after.get(name) != what
    ]


def _facts(files: FileDescriptorSet) -> dict[str, str]:
    """Return what a stub or a reader of JSON relies on, by name."""
    facts: dict[str, str] = {}
    for file in files.file:
        if file.package == PACKAGE:
            for message in file.message_type:
                facts.update(_of_message(PACKAGE, message))
            for enum in file.enum_type:
                facts.update(_of_enum(PACKAGE, enum))
            for service in file.service:
                facts.update(_of_service(service))
    return facts


def _of_message(parent: str, message: DescriptorProto) -> Iterator[tuple[str, str]]:
    name = f"{parent}.{message.name}"
    yield name, "a message"
    for field in message.field:
        yield f"{name}.{field.name}", _of_field(message, field)
    for nested in message.nested_type:
        yield from _of_message(name, nested)
    for enum in message.enum_type:
        yield from _of_enum(name, enum)


def _of_field(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    label = FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower()
    text = f"{label} {field.type_name or kind} = {field.number}, {field.json_name}"
    if field.proto3_optional:
        return f"{text}, with presence"
    if field.HasField("oneof_index"):
        return f"{text}, of {message.oneof_decl[field.oneof_index].name}"
    return text


def _of_enum(parent: str, enum: EnumDescriptorProto) -> Iterator[tuple[str, str]]:
    name = f"{parent}.{enum.name}"
    yield name, "an enum"
    for value in enum.value:
        yield f"{name}.{value.name}", str(value.number)


def _of_service(service: ServiceDescriptorProto) -> Iterator[tuple[str, str]]:
    for method in service.method:
        takes = "stream " * method.client_streaming + method.input_type
        gives = "stream " * method.server_streaming + method.output_type
        yield f"{PACKAGE}.{service.name}.{method.name}", f"{takes} -> {gives}"
