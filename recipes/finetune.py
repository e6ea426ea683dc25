"""IG-FIQA from a trained backbone: needs backbone_weights=PATH, a run's folder or a torch checkpoint."""

from easydict import EasyDict as edict

config = edict()
config.quality_head = "ig_fiqa"
config.ig_fiqa = edict(variance_init="first_pass")  # CCS is high from the start: v = 1 would silence most

config.rec = "data/faces_webface_112x112"
config.backbone_weights = None  # required
config.network = None  # that of the weights
config.embedding_size = None  # likewise
config.prototype_init = "class_means"

config.batch_size = 128  # 64 clean + 64 degraded
config.num_epoch = 4
config.optimizer = "adamw"  # R's gradient grows with the embedding's length, which is the network's own
config.lr = 1e-3
config.lr_factor = edict(backbone=0.1)  # it is trained already
config.weight_decay = 0.05
config.warmup_epoch = 1
