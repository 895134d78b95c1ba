"""The build: every kernel for every instruction set and float width, and the folder mapping.

Everything else about the package stands in pyproject.toml.

FASTCNN_DEBUG=1   build with bounds checks and debug information
FASTCNN_OPENMP=0  build without OpenMP, on one thread
FASTCNN_TEAM=0    leave the threads to the compiler's OpenMP runtime, as other compilers than gcc do
"""

import os
import runpy
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ISA = runpy.run_path("fastcnn/_kernels/isa.py")
DEBUG = os.environ.get("FASTCNN_DEBUG") == "1"
KERNELS = "fastcnn._kernels"
SHARED = f"{KERNELS}._cython_shared"
TEAM = f"{KERNELS}._team"

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": DEBUG,
    "embedsignature": False,
}

# Neither of the two -fno flags changes a result: they let the compiler turn a comparison into
# a vector select. -g0: debug information would be most of the wheel.
FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math"]
# Only what is declared inline is inlined: inner loops that are functions keep their pointers in
# registers.
FLAGS += ["-fno-inline-functions", "-fno-inline-small-functions"]
FLAGS += ["-fno-inline-functions-called-once"]
FLAGS += ["-g"] if DEBUG else ["-g0"]
# What gcc calls for a prange, answered by _team.pyx instead of libgomp.
WRAPPED = [
    "GOMP_parallel",
    "GOMP_barrier",
    "GOMP_loop_nonmonotonic_dynamic_start",
    "GOMP_loop_nonmonotonic_dynamic_next",
    "GOMP_loop_end_nowait",
    "omp_get_thread_num",
    "omp_get_num_threads",
    "omp_get_max_threads",
]
LINK_FLAGS = [] if DEBUG or sys.platform != "linux" else ["-Wl,--strip-all"]

NO_COMPILER = """
fastcnn compiles its kernels when it is installed, and no working C compiler was found.
Install one and try again, for example:
    Debian, Ubuntu:  apt install gcc python3-dev
    Fedora:          dnf install gcc python3-devel
    macOS:           xcode-select --install
    Windows:         Microsoft C++ Build Tools
"""

# As Cython writes a prange. It is never run: what the compiler calls for it must be WRAPPED.
TEAM_PROBE = """
int main(int count, char **arguments)
{
    int i, last = 0;
    #pragma omp parallel num_threads(2)
    {
        #pragma omp for nowait firstprivate(last) lastprivate(last) schedule(dynamic)
        for (i = 0; i < count; i++) last = i;
    }
    return last;
}
""" + "".join(f"void __wrap_{name}(void) {{ }}\n" for name in WRAPPED)


def extensions():
    """Translate every module to C, once for each variant; return the extensions to compile."""
    folder = Path("build", "cython")
    modules = [
        Extension(f"{KERNELS}._cpu", ["fastcnn/_kernels/_cpu.pyx"]),
        Extension(f"{KERNELS}._memory", ["fastcnn/_kernels/_memory.pyx"]),
        Extension(TEAM, ["fastcnn/_kernels/_team.pyx"]),
        Extension(SHARED, [str(folder / "_cython_shared.c")]),
    ]
    result = translate(modules, folder)
    for isa in ISA["instruction_sets"]():
        for dtype in ISA["DTYPES"]:
            modules = [
                Extension(
                    f"{KERNELS}.{isa.name}.{dtype}.{module}", [f"fastcnn/_kernels/{module}.pyx"]
                )
                for module in ISA["modules"](dtype)
            ]
            for extension in translate(modules, folder / isa.name / dtype):
                # Set only now: cythonize mixes up the options of extensions of one source.
                extension.extra_compile_args = list(isa.flags)
                extension.define_macros = [("REAL_IS_DOUBLE", "1")] if dtype == "float64" else []
                extension.include_dirs = ["fastcnn/_kernels"]
                extension.depends = [*extension.depends, "fastcnn/_kernels/vector.h"]
                result.append(extension)
    return result


def translate(modules, folder):
    return cythonize(
        modules,
        build_dir=str(folder),
        compiler_directives=DIRECTIVES,
        shared_utility_qualified_name=SHARED,
        nthreads=os.cpu_count() or 1,
        quiet=True,
    )


class BuildKernels(build_ext):
    """Compiles with what the compiler has: OpenMP or not, the instruction sets or not."""

    def build_extensions(self):
        if not self.compiles([]):
            sys.exit(NO_COMPILER)
        unix = self.compiler.compiler_type == "unix"
        openmp = ["/openmp"] if not unix else ["-fopenmp"]
        if os.environ.get("FASTCNN_OPENMP") == "0" or not self.compiles(openmp):
            self.warn("building without OpenMP: fastcnn will run on one thread")
            openmp = []
        wanted = unix and openmp and os.environ.get("FASTCNN_TEAM") != "0"
        team = self.build_team() if wanted else None
        kept = []
        for extension in self.extensions:
            if extension.name == TEAM:
                continue
            isa_flags = extension.extra_compile_args
            if isa_flags and not (unix and self.compiles(isa_flags)):
                self.warn(f"the compiler does not know {isa_flags}: {extension.name} is left out")
                continue
            if unix:
                extension.extra_compile_args = FLAGS + isa_flags + openmp
                extension.extra_link_args = LINK_FLAGS + openmp
                if team is not None:
                    self.link_with_team(extension)
            else:
                extension.extra_compile_args = ["/O2", *openmp]
            kept.append(extension)
        self.extensions = kept
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()
        if team is not None:
            self.extensions = [team, *kept]

    def build_team(self):
        """Build _team, which the kernels are linked with; None where compilers do otherwise."""
        wraps = [f"-Wl,--wrap={name}" for name in WRAPPED]
        if not self.compiles(["-fopenmp"], TEAM_PROBE, wraps):
            self.warn("the kernels will run on the compiler's OpenMP, not on threads of their own")
            return None
        (team,) = (extension for extension in self.extensions if extension.name == TEAM)
        file = self.get_ext_fullpath(TEAM)
        team.extra_compile_args = FLAGS
        team.extra_link_args = [*LINK_FLAGS, "-pthread", f"-Wl,-soname,{Path(file).name}"]
        self.build_extension(team)
        return team

    def link_with_team(self, extension):
        extension.extra_link_args = LINK_FLAGS.copy()
        folders = extension.name.removeprefix(f"{KERNELS}.").split(".")[:-1]
        if folders:  # a kernel: the modules beside _team have no prange
            extension.extra_objects = [self.get_ext_fullpath(TEAM)]
            extension.extra_link_args += [f"-Wl,--wrap={name}" for name in WRAPPED]
            extension.extra_link_args.append("-Wl,-rpath,$ORIGIN" + "/.." * len(folders))

    def compiles(self, flags, program=None, link_flags=None):
        """Return whether a small program compiles, and links with these or the same flags."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            include = "#include <omp.h>\n" if any("openmp" in flag for flag in flags) else ""
            source.write_text(program or f"{include}int main(void) {{ return 0; }}\n")
            try:
                objects = self.compiler.compile(
                    [str(source)], output_dir=folder, extra_postargs=list(flags)
                )
                self.compiler.link_executable(
                    objects,
                    str(Path(folder, "probe")),
                    extra_postargs=list(flags if link_flags is None else link_flags),
                )
            except Exception:  # every compiler class of setuptools raises its own
                return False
        return True


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildKernels},
    package_dir={"fastcnn.reference": "reference"},
)
