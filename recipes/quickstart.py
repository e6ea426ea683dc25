"""See it work in minutes on a laptop: rendered faces, a small network, the full method."""

from easydict import EasyDict as edict

config = edict()
config.quality_head = "ig_fiqa"

config.ig_fiqa = edict(jitter=(0.8, 1.2))  # drawn people are told apart by colour more than real ones are

config.rec = "synthetic"
config.synthetic = edict(num_identities=300, images_per_identity=30)
config.val_targets = ["synthetic"]
config.num_workers = 0  # rendered faces are kept in memory
config.erc_fmr = 1e-2  # what a recogniser trained for minutes can be asked for

config.network = "timm:test_byobnet"
config.embedding_size = 512
config.margin_list = (1.0, 0.2, 0.0)  # a small margin and scale converge within a few epochs
config.scale = 24.0

config.batch_size = 64  # 32 clean + 32 degraded
config.num_epoch = 10
config.optimizer = "adamw"
config.lr = 3e-3
config.weight_decay = 0.05
config.warmup_epoch = 1
config.frequent = 50
