"""The layer that is explained without being named, for the architectures that people use."""

from __future__ import annotations


def _by_architecture(groups: dict[str, str]) -> dict[str, str]:
    return {architecture: layer for layer, names in groups.items() for architecture in names.split()}


TORCHVISION = _by_architecture({
    # The last pooling in front of the perceptron.
    "avgpool": "alexnet vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn",
    # The post-activation input of the global pooling; for SqueezeNet the input of the last convolution.
    "features": (
        "convnext_tiny convnext_small convnext_base convnext_large efficientnet_b0 efficientnet_b1 efficientnet_b2 "
        "efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6 efficientnet_b7 efficientnet_v2_s "
        "efficientnet_v2_m efficientnet_v2_l mobilenet_v2 mobilenet_v3_small mobilenet_v3_large squeezenet1_0 "
        "squeezenet1_1"
    ),
    # DenseNets apply their last ReLU as a function: no module owns it.
    "relu_120": "densenet121",
    "relu_160": "densenet161",
    "relu_168": "densenet169",
    "relu_200": "densenet201",
    "inception5b": "googlenet",
    "Mixed_7c": "inception_v3",
    "layers": "mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3",
    "trunk_output": (
        "regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf regnet_x_16gf regnet_x_32gf "
        "regnet_y_400mf regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf regnet_y_8gf regnet_y_16gf regnet_y_32gf"
    ),
    "layer4": (
        "resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d resnext101_64x4d "
        "wide_resnet50_2 wide_resnet101_2"
    ),
    "conv5": "shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0",
    "permute": "swin_t swin_s swin_b swin_v2_t swin_v2_s swin_v2_b",
    "blocks.3": "maxvit_t",
    # The tokens that enter the last block: after it, only the class token is read.
    "encoder.layers.encoder_layer_10": "vit_b_16 vit_b_32",
    "encoder.layers.encoder_layer_22": "vit_l_16 vit_l_32",
})  # fmt: skip
TOO_LARGE = {"regnet_y_128gf", "vit_h_14"}
"""Weights over 2 GiB."""

ONE_A_FAMILY = [
    "alexnet", "convnext_tiny", "googlenet", "inception_v3", "mnasnet0_5", "mobilenet_v2",
    "mobilenet_v3_small", "regnet_x_400mf", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t",
    "vit_b_32",
]  # fmt: skip
"""Besides ResNet, DenseNet and EfficientNet, which have tests on real radiographs."""

TIMM = _by_architecture({
    "stages": (
        "resnext26ts repvgg_a0 mobileone_s0 ese_vovnet19b_slim cspresnet50 cspdarknet53 darknet17 convnext_atto "
        "convnextv2_atto inception_next_atto fasternet_t0 hgnetv2_b0 gcresnext26ts botnet26t_256 halonet26t "
        "lambda_resnet26t bat_resnext26ts swinv2_cr_tiny_ns_224 pvt_v2_b0 levit_128s maxvit_tiny_tf_224 davit_tiny "
        "gcvit_xxtiny mobilevitv2_050 poolformer_s12 caformer_s18 convformer_s18 repvit_m0_9 efficientvit_m0 "
        "tiny_vit_5m_224 mambaout_femto edgenext_xx_small"
    ),
    "layer4": "resnet26d seresnext26d_32x4d res2net50_26w_4s resnest14d skresnet18 ecaresnet26t",
    "norm": (
        "starnet_s1 focalnet_tiny_srf resnetv2_50 swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 "
        "twins_svt_small twins_pcpvt_small nest_tiny coatnet_nano_rw_224 coatnext_nano_rw_224 "
        "maxvit_rmlp_pico_rw_256 mvitv2_tiny visformer_tiny volo_d1_224 efficientformer_l1 efficientformerv2_s0 "
        "mixer_s32_224 resmlp_12_224"
    ),
    "bn2": "efficientnet_lite0 tf_efficientnetv2_b0 mixnet_s mobilenetv2_050 fbnetc_100 tinynet_e spnasnet_100",
    "blocks": (
        "mobilenetv3_small_050 mobilenetv4_conv_small mobilenetv4_hybrid_medium ghostnet_050 ghostnetv2_100 "
        "hardcorenas_a lcnet_050 repghostnet_050 xception41 cait_xxs24_224"
    ),
    "features": "dpn48b rexnet_100 vgg11_bn",
    "s4": "regnety_002",
    "level5": "dla34",
    "final_layer": "hrnet_w18_small",
    "final_conv": "regnetz_c16 sebotnet33ts_256 fastvit_t8 mobilevit_xxs",
    "final_act": "dm_nfnet_f0 nf_resnet26 nf_regnet_b0 eca_nfnet_l0",
    "dense_stages": "rdnet_tiny",
    "head": "selecsls42",
    "head.in_conv": "efficientvit_b0",
    "body": "tresnet_m",
    "blocks.10": (
        "vit_tiny_patch16_224 vit_small_patch32_224 deit_tiny_distilled_patch16_224 deit3_small_patch16_224 "
        "convit_tiny"
    ),
    "transformers.2.blocks.2": "pit_ti_224 pit_ti_distilled_224",
    "cls_attn_blocks.0": "xcit_nano_12_p16_224",
})  # fmt: skip
