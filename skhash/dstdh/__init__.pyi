from ._hasher import DSTDHHasher as DSTDHHasher
from ._linear import DSTDHLinear as DSTDHLinear
