"""What type checkers are to know: mypy and pyright read this file, nothing runs it.

An ignored error that either does not find is an error itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Unpack

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    import skhash
    from skhash import (
        ITQ,
        DSHHasher,
        DSTDHHasher,
        DSTDHLinear,
        HammingNeighbors,
        ImageSearch,
        SADHHasher,
    )
    from skhash.networks import NetworkParameters

    DSHHasher(16, margin=1.0, lr=0.1, backbone="vgg16", hidden_layers=(8,))
    DSHHasher(backbne=None)  # type: ignore[call-arg]
    DSHHasher(lr="fast")  # type: ignore[arg-type]
    DSTDHHasher(alpha=0.1, max_epochs=3, n_rounds=2)
    DSTDHHasher(alfa=0.1)  # type: ignore[call-arg]
    DSTDHHasher(weight_decay="strong")  # type: ignore[arg-type]
    DSTDHLinear(beta=0.1, ridge="auto")
    DSTDHLinear(betta=0.1)  # type: ignore[call-arg]
    SADHHasher(bit_balance=1.0, batch_size=8)
    SADHHasher(balance=1.0)  # type: ignore[call-arg]
    hits: list[skhash.search.Hit] = ImageSearch(ITQ(8)).query(np.eye(9), having=["sea"])[0]
    ImageSearch(rescored=True)  # type: ignore[call-arg]
    ITQ(n_bit=8)  # type: ignore[call-arg]
    HammingNeighbors(n_neighbours=3)  # type: ignore[call-arg]
    skhash.DSHHaser()  # type: ignore[attr-defined]

    codes: np.ndarray = ITQ(8).fit(np.eye(9)).transform(np.eye(9))
    distances, similar = HammingNeighbors().fit(codes).kneighbors(codes)
    similar = HammingNeighbors().fit(codes).kneighbors(codes, return_distance=False)

    class Mine(skhash.DeepHasher):
        """A hasher of one's own."""

        _defaults: ClassVar[NetworkParameters] = {"weight_decay": 2.0}

        def __init__(
            self, n_bits: int = 8, *, strength: float = 1.0, **network: Unpack[NetworkParameters]
        ) -> None:
            super().__init__(n_bits, **network)
            self.strength = strength

        def make_loss(self) -> nn.Module:
            return nn.MSELoss()

    Mine(strength=2.0, max_epochs=5)
    Mine(max_epoch=5)  # type: ignore[call-arg]
