from ._files import load as load
from ._files import save as save
from ._onnx import to_onnx as to_onnx
