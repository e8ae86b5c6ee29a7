# The public names of the package, and where they live: read by type checkers, and by
# __init__.py, which loads them on first use.
from . import codes as codes
from . import datasets as datasets
from . import dstdh as dstdh
from . import graphs as graphs
from . import images as images
from . import metrics as metrics
from . import neighbors as neighbors
from . import networks as networks
from . import semantic as semantic
from . import social as social
from . import supervised as supervised
from . import tags as tags
from . import unsupervised as unsupervised
from . import weakly as weakly
from .dstdh import DSTDHHasher as DSTDHHasher
from .dstdh import DSTDHLinear as DSTDHLinear
from .neighbors import HammingNeighbors as HammingNeighbors
from .networks import DeepHasher as DeepHasher
from .networks import ImageFeatures as ImageFeatures
from .semantic import SemanticSpace as SemanticSpace
from .semantic import SemanticTargets as SemanticTargets
from .semantic import TagHasher as TagHasher
from .social import SAH as SAH
from .social import WMH as WMH
from .social import TagITQ as TagITQ
from .social import TagITQHasher as TagITQHasher
from .supervised import KSH as KSH
from .supervised import DRSCHHasher as DRSCHHasher
from .supervised import DSHHasher as DSHHasher
from .supervised import KSHHasher as KSHHasher
from .unsupervised import ITQ as ITQ
from .unsupervised import LSH as LSH
from .unsupervised import LSMH as LSMH
from .unsupervised import PCAH as PCAH
from .unsupervised import SGH as SGH
from .unsupervised import SKLSH as SKLSH
from .unsupervised import UHBDNN as UHBDNN
from .unsupervised import DeepBit as DeepBit
from .unsupervised import GreedyHash as GreedyHash
from .unsupervised import SADHHasher as SADHHasher
from .unsupervised import SADHLinear as SADHLinear
from .unsupervised import SpectralHashing as SpectralHashing
from .weakly import WeaklySupervisedHasher as WeaklySupervisedHasher

__version__: str
