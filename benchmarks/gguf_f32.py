"""Writes the LM of a GGUF file with its weights dequantised to float32, so that llama.cpp rounds no activations.

python benchmarks/gguf_f32.py model.Q4_1.gguf model.F32.gguf
"""

import argparse
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter, Keys, LlamaFileType
from gguf.quants import dequantize

#: Fields that the writer sets itself.
_OWN = (Keys.General.ARCHITECTURE, Keys.General.FILE_TYPE, "general.quantization_version")


def write_f32(source: Path, out: Path) -> None:
    """Writes ``source`` to ``out``: the same fields, and the same weights as float32."""
    file = GGUFReader(source)
    writer = GGUFWriter(out, file.fields[Keys.General.ARCHITECTURE].contents())
    writer.add_file_type(LlamaFileType.ALL_F32)
    for name, field in file.fields.items():
        if name.startswith("GGUF.") or name in _OWN:
            continue
        kind, *parts = field.types
        writer.add_key_value(name, field.contents(), kind, parts[0] if kind == GGUFValueType.ARRAY else None)
    for tensor in file.tensors:
        writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    write_f32(options.source, options.out)


if __name__ == "__main__":
    main()
