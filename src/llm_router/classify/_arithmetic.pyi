from llm_router.classify.arithmetic import Sums
from llm_router.classify.weights import Floats, Steps

REVISION: int

def judged(logits: list[float], serves: bytes, /) -> tuple[int, float, list[float]]: ...

class KeyTable:
    def __init__(
        self,
        *,
        vocabulary: bytes,
        table: Steps,
        scale: Floats,
        mass: Floats,
        groups: Steps,
        group_scale: Floats,
        group_mass: Floats,
        shape_table: Floats,
        columns: int,
        strange_mass: float,
        middle: float,
        most_times: int,
        edge_tokens: int,
        digits: int,
    ) -> None: ...
    def sums(self, text: str, end_chars: int = 0, /) -> Sums: ...
    def sums_of(self, head: list[str], tail: list[str], middle: list[str], /) -> Sums: ...
    def key(self, row: int, /) -> str: ...
