"""See it work in minutes on a laptop: rendered faces, a small network, the full method."""

from easydict import EasyDict as edict

config = edict()
config.quality_head = "ig_fiqa"
config.rec = "synthetic"
config.val_targets = ["synthetic"]
config.network = "timm:mobilenetv3_small_050"
config.embedding_size = 512
config.batch_size = 128
config.num_epoch = 12
config.optimizer = "adamw"
config.lr = 2e-3
config.weight_decay = 0.05
config.warmup_epoch = 1
config.frequent = 20
