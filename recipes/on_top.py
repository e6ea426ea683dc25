"""A quality head for the recogniser one already has: recognizer=PATH rec=DIR; docs/on_top.md."""

from easydict import EasyDict as edict

config = edict()
config.recognizer = ""  # required
config.network = None  # of a checkpoint that does not tell, such as "timm:resnet18"
config.quality_head = "ig_fiqa"
config.ig_fiqa = edict(  # stronger than in a training: nothing here can harm the recogniser
    rescale=(0.1, 1.0), jitter=(0.2, 1.8), erase_area=(0.02, 0.5)
)

config.batch_size = 256
config.num_epoch = 20
config.optimizer = "adamw"
config.lr = 1e-3
config.weight_decay = 1.0
config.warmup_epoch = 1
config.frequent = 200
