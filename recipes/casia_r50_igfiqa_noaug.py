"""IG-FIQA(S-) of the paper: IG-FIQA(S) without degradations. The images are still split in halves."""

from easydict import EasyDict as edict

config = edict()
config.quality_head = "ig_fiqa"
config.ig_fiqa = edict(degradation_p=0.0)
config.network = "r50"
config.dropout = 0.4
config.margin_list = (1.0, 0.5, 0.0)
config.rec = "data/faces_webface_112x112"
config.num_classes = 10572
config.batch_size = 128  # x 8 processes = 1024 = 512 + 512
config.lr = 0.1
config.num_epoch = 36
config.lr_schedule = "step"
config.lr_decay_epochs = [20, 28]
config.val_targets = ["lfw", "cfp_fp", "agedb_30"]
