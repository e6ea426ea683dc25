"""CR-FIQA(S), the baseline: ResNet-50 on CASIA-WebFace with CR-FIQA's public settings, for 4 processes."""

from easydict import EasyDict as edict

config = edict()
config.quality_head = "cr_fiqa"
config.network = "r50"
config.dropout = 0.4
config.margin_list = (1.0, 0.5, 0.0)
config.rec = "data/faces_webface_112x112"
config.num_classes = 10572
config.batch_size = 128  # x 4 processes = 512
config.lr = 0.1
config.num_epoch = 34
config.lr_schedule = "step"
config.lr_decay_epochs = [20, 28, 32]
config.val_targets = ["lfw", "cfp_fp", "agedb_30"]
