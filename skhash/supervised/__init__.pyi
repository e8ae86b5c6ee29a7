from ._deep import DRSCHHasher as DRSCHHasher
from ._deep import DSHHasher as DSHHasher
from ._deep import KSHHasher as KSHHasher
from ._ksh import KSH as KSH
