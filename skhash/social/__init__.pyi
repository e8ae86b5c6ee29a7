from ._sah import SAH as SAH
from ._tag_itq import TagITQ as TagITQ
from ._tag_itq_hasher import TagITQHasher as TagITQHasher
from ._wmh import WMH as WMH
