"""Every recipe key with its default. A recipe is a file like this one that sets only what it changes.

Keys of arcface_torch keep its names, meanings and defaults, so its config files load unchanged.
Any key can be given on the command line as well: key=value, or ig_fiqa.key=value for a key of a block.
"""

from easydict import EasyDict as edict

config = edict()

# ---- data -----------------------------------------------------------------------------------------
config.rec = None  # required: a folder with train.rec and train.idx, a folder of identities, or "synthetic"
config.dataset = "auto"  # a registered reader (recordio, image_folder, synthetic); auto looks at rec
config.num_classes = None  # None: from the data
config.num_image = None  # None: from the data
config.val_targets = []  # names of .bin files in rec, without the suffix; "synthetic" for rendered test faces
config.held_out = None  # share of identities to judge by; None: 0.1 of a folder without val_targets, else 0
config.num_workers = 2  # loader processes, of each training process
config.decoded_cache = None  # folder for decoded images, 37 KB each, where decoding takes too long
config.dali = False  # accepted for arcface_torch's files; our loader is used
config.dali_aug = False  # likewise

# what rec = "synthetic" renders; num_classes and num_image, where set, take precedence
config.synthetic = edict()
config.synthetic.num_identities = 200
config.synthetic.images_per_identity = 20
config.synthetic.low_variance_share = 0.2  # share of identities whose images are near-duplicates
config.synthetic.clean_share = 1 / 3  # share of the other identities' images that are nearly clean
config.synthetic.test_identities = 100  # of the verification target "synthetic"; none of them is trained on
config.synthetic.test_images_per_identity = 10

# ---- recogniser -----------------------------------------------------------------------------------
config.network = "r50"  # r18 .. r2060, mbf, mbf_large, vit_*, or timm:NAME; None: that of backbone_weights
config.embedding_size = 512  # None: that of backbone_weights
config.backbone_weights = None  # start from this run folder or torch checkpoint; None: at random
config.dropout = 0.0  # before the embedding layer
config.fp16 = False  # mixed precision in the backbone: float16 on a GPU, bfloat16 on a CPU
config.bf16 = False  # mixed precision in bfloat16, which needs no scaling of the gradients
config.compile = False  # torch.compile: a minute at the start, faster steps
config.sync_bn = False  # on several GPUs, batch normalisation over the images of all
config.margin_list = (1.0, 0.5, 0.0)  # m1, m2, m3: (1, m, 0) is ArcFace, (1, 0, m) is CosFace
config.margin_gradient = "exact"  # or "straight_through", arcface_torch's derivative of the ArcFace margin
config.margin = None  # instead of these two, a registered margin; its settings are the block of its name
config.scale = 64.0  # s
config.classifier = "partial_fc"
config.prototype_init = "random"  # or "class_means", from one pass over the data before the first step
config.sample_rate = 1.0  # share of negative classes in each step's softmax (PartialFC)
config.interclass_filtering_threshold = 0  # cosines above it to other classes are ignored; 0: off

# ---- quality head ---------------------------------------------------------------------------------
config.quality_head = None  # "ig_fiqa", "cr_fiqa", or None for plain recognition

config.ig_fiqa = edict()
config.ig_fiqa.loss_weight = 10.0  # lambda of Eq. 11
config.ig_fiqa.beta = 0.5  # of the smooth L1 loss, Eq. 3
config.ig_fiqa.momentum_start = 0.9  # alpha of Eq. 8 in the first epoch
config.ig_fiqa.momentum_end = 1.0  # what alpha rises towards
config.ig_fiqa.fractional_momentum = False  # True: alpha rises within an epoch, too
config.ig_fiqa.variance_weights = True  # False: every sample weighs 1
config.ig_fiqa.variance_init = "ones"  # "ones" (the paper), "seen" or "first_pass"
config.ig_fiqa.sub_batch = "split"  # two disjoint halves; "mirror": one and its degraded copy
config.ig_fiqa.detach_backbone = False  # True: L_IG trains R only
config.ig_fiqa.quality_bn = "shared"  # "clean": the degraded pass leaves running BN statistics alone
config.ig_fiqa.degradation_p = 0.3  # probability of each of the three degradations
config.ig_fiqa.rescale = (0.2, 1.0)  # side ratio
config.ig_fiqa.jitter = (0.5, 1.5)  # brightness, contrast and saturation factors
config.ig_fiqa.erase_area = (0.02, 0.33)  # share of the image
config.ig_fiqa.erase_aspect = (0.3, 3.3)
config.ig_fiqa.further_p = 0.0  # of defocus, dead pixels, gamma, misalignment and mosaic, which follow

config.cr_fiqa = edict()
config.cr_fiqa.loss_weight = 10.0
config.cr_fiqa.beta = 0.5
config.cr_fiqa.detach_backbone = False
config.cr_fiqa.degradation_p = 0.0  # > 0 degrades the recogniser's images, too (Tab. 1b)

# ---- quality head on top of a recogniser that is not trained ------------------------------------------
config.recognizer = None  # an ONNX file or pack of insightface, a checkpoint or run folder, or timm:NAME

config.on_top = edict()
config.on_top.reads = ["embedding", "norm", "maps"]  # what R reads; maps: pooled activations
config.on_top.hidden = 0  # units of R's hidden layer; 0: one linear layer, as in the paper
config.on_top.replicas = 4  # degraded copies of each image
config.on_top.max_images = 10_000  # of larger data sets, so many images are taken, of random identities
config.on_top.held_out = 0.1  # share of the identities that the result is judged by, and not learned from
config.on_top.degraded_share = 0.4  # of the images of a test set; kinds of damage that R does not learn from
config.on_top.cache = "work_dirs/cache"  # where features are kept; None: not at all

# ---- optimisation ---------------------------------------------------------------------------------
config.num_epoch = None  # required
config.batch_size = 128  # images in a step's forward passes, per process
config.gradient_acc = 1  # batches per optimiser step
config.optimizer = "sgd"  # or "adamw"
config.lr = 0.1
config.lr_factor = edict()  # what lr is multiplied by, for the parameters of
config.lr_factor.backbone = 1.0
config.lr_factor.classifier = 1.0
config.lr_factor.quality_head = 1.0
config.momentum = 0.9
config.weight_decay = 5e-4
config.lr_schedule = "polynomial"  # to zero, per step (arcface_torch); or "step" (the paper)
config.lr_decay_epochs = []  # for "step": lr is multiplied by lr_decay after each of these epochs
config.lr_decay = 0.1
config.warmup_epoch = 0
config.clip_grad_norm = 5.0  # of the gradient of backbone and quality head; None: no clipping
config.seed = 2048
config.device = "auto"  # CUDA, else MPS, else CPU

# ---- run ------------------------------------------------------------------------------------------
config.output = None  # None: work_dirs/<recipe>
config.resume = False  # True: go on from the checkpoint in output; "auto": if there is one
config.overwrite = False  # True: replace the run that is in output, which is refused otherwise
config.checkpoint_every = 2000  # steps between checkpoints, besides that at each epoch's end
config.max_skipped = 20  # steps in a row that may be skipped because the gradient is not finite
config.rank_timeout = 1800  # seconds that processes wait for each other, also while the first one verifies
config.save_all_states = False  # accepted for arcface_torch's files; our checkpoints are always complete
config.frequent = 10  # steps between log lines
config.verbose = 2000  # steps between verifications
config.erc_fmr = 1e-3  # false match rate at which error-versus-reject curves are taken
config.plugins = []  # modules or .py files that register more backbones, heads, ...

config.using_wandb = False  # needs pip install "igfiqa-head[wandb]"
config.wandb_key = None
config.wandb_entity = None
config.wandb_project = None
config.wandb_log_all = True  # accepted for arcface_torch's files: the first process logs
config.wandb_resume = False
config.save_artifacts = False  # upload model.pt after every epoch
config.suffix_run_name = None
config.notes = None
