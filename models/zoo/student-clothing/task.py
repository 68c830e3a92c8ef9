"""What decoded photographs of clothing show, by the teacher of `student-clothing`.

codec eval photos/ -c student-clothing -c webp --task models/zoo/student-clothing/task.py
"""

import codec
from codec import checkpoint

_system = checkpoint.load(codec.find_model("student-clothing"))


def predict(picture: codec.Image) -> str:
    """Return the class of a photograph."""
    return _system.classes[int(_system.judge(picture).argmax())]
