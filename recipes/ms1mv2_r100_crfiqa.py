"""CR-FIQA(L), the baseline: ResNet-100 on MS1M-V2 with CR-FIQA's public settings, for 4 processes."""

from easydict import EasyDict as edict

config = edict()
config.quality_head = "cr_fiqa"
config.network = "r100"
config.dropout = 0.4
config.margin_list = (1.0, 0.5, 0.0)
config.rec = "data/faces_emore"
config.num_classes = 85742
config.num_image = 5822653
config.batch_size = 128  # x 4 processes = 512
config.lr = 0.1
config.num_epoch = 18
config.lr_schedule = "step"
config.lr_decay_epochs = [8, 14]
config.val_targets = ["lfw", "cfp_fp", "agedb_30"]
