"""IG-FIQA(L) of the paper: ResNet-100 on MS1M-V2. Batch and lr are those of 8 processes."""

from easydict import EasyDict as edict

config = edict()
config.quality_head = "ig_fiqa"
config.network = "r100"
config.dropout = 0.4
config.margin_list = (1.0, 0.5, 0.0)
config.rec = "data/faces_emore"
config.num_classes = 85742
config.num_image = 5822653
config.batch_size = 128  # x 8 processes = 1024 = 512 clean + 512 degraded
config.lr = 0.1
config.num_epoch = 20
config.lr_schedule = "step"
config.lr_decay_epochs = [10, 16]
config.val_targets = ["lfw", "cfp_fp", "agedb_30"]
