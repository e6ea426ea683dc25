from igfiqa_head.registry import import_submodules

import_submodules(__name__)
