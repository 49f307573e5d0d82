"""Lines that TensorFlow prints at each start, whatever the script does: they are logged at DEBUG.

A pattern is here only if its line tells a user nothing to act on. A line that no pattern knows keeps its level.
"""

from __future__ import annotations

import re

# Each with the file of TensorFlow that prints it. The beginning of the line differs between versions.
_KNOWN = (
    # absl/log: printed when a library logs before the program has set logging up, as an import does.
    r"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR$",
    # tensorflow/core/util/port.cc
    r"oneDNN custom operations are on\. You may see slightly different numerical results",
    # tensorflow/core/platform/cpu_feature_guard.cc, two lines
    r"This TensorFlow binary is optimized (to use available|with oneAPI)",
    r"To enable (the following instructions|them in other operations)\b.*rebuild TensorFlow with the appropriate",
    # xla/tsl/cuda/cudart_stub.cc and tensorflow/stream_executor/cuda/cudart_stub.cc: there is no GPU.
    r"Could not find cuda drivers on your machine, GPU will not be used",
    r"Ignore above cudart dlerror if you do not have a GPU set up on your machine",
    # xla/stream_executor/cuda/cuda_platform.cc, cuda_driver.cc and cuda_diagnostics.cc: there is no GPU.
    r"failed call to cuInit: .*(UNKNOWN ERROR \(303\)|CUDA_ERROR_NO_DEVICE|no CUDA-capable device)",
    r"cuda_diagnostics\.cc:\d+\] ",
    r"kernel driver does not appear to be running on this host",
    # xla/stream_executor/cuda/cuda_fft.cc, cuda_dnn.cc and cuda_blas.cc: two libraries of one wheel register the same.
    r"Unable to register cu(FFT|DNN|BLAS) factory: Attempting to register factory for plugin",
    # xla/service/computation_placer.cc: the same.
    r"computation placer already registered",
    # tensorflow/compiler/tf2tensorrt/utils/py_utils.cc: TensorRT is optional.
    r"TF-TRT Warning: (Could not find TensorRT|Cannot dlopen some TensorRT libraries)",
    # Python's import system, of TensorFlow's and protobuf's own extension modules.
    r"^<frozen importlib\._bootstrap(_external)?>:\d+: DeprecationWarning: ",
)
_NOISE = re.compile("|".join(_KNOWN))
# The beginnings of such lines, among them both forms of TensorFlow's C++ logging. Looked at first: a script may print
# millions of lines, and one that only quotes TensorFlow keeps its level.
_BEGINNING = re.compile(
    r"[IWEF]\d{4} \d\d:|\d{4}-\d\d-\d\d [\d:.]+: [IWEF] |WARNING: All log |To enable |<frozen importlib\."
)


def is_known_noise(line: str) -> bool:
    """Tell whether a line is TensorFlow's own and of no interest."""
    return _BEGINNING.match(line) is not None and _NOISE.search(line) is not None
