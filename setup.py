"""The build: every kernel for every instruction set and float width, and where reference/ goes.

Everything else about the package stands in pyproject.toml.

FASTCNN_DEBUG=1   build with bounds checks and debug information
FASTCNN_OPENMP=0  build without OpenMP, on one thread
FASTCNN_TEAM=0    leave the threads to the compiler's OpenMP runtime, as other compilers than gcc do
"""

import os
import re
import runpy
import shutil
import sys
import tempfile
from copy import copy
from pathlib import Path

import Cython
from Cython.Build import cythonize
from Cython.Build.Dependencies import create_dependency_tree
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.modified import newer_group

ISA = runpy.run_path("fastcnn/_kernels/isa.py")
DEBUG = os.environ.get("FASTCNN_DEBUG") == "1"
KERNELS = "fastcnn._kernels"
SHARED = f"{KERNELS}._cython_shared"
TEAM = f"{KERNELS}._team"
HEADER = "fastcnn/_kernels/vector.h"
# Modules that another version of Cython translated do not go together with its shared one.
C_FILES = Path("build", f"cython-{Cython.__version__}{'-debug' if DEBUG else ''}")

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

# What gcc is told in the C that Cython writes (spend_less), and where. Other compilers do not know
# these lines.
NOT_CLANG = "#if defined(__GNUC__) && !defined(__clang__)\n"


def told_gcc(*lines):
    return NOT_CLANG + "".join(f"{line}\n" for line in lines) + "#endif\n"


# Without the second word, no function of the module would have the frame pointer's register.
NONE = told_gcc('#pragma GCC optimize ("O0", "omit-frame-pointer")')
LITTLE = told_gcc('#pragma GCC optimize ("O1")')
ONE = told_gcc("#pragma GCC push_options", '#pragma GCC optimize ("O1")')
OTHERS = told_gcc("#pragma GCC pop_options")
NOT_INLINED = told_gcc(
    '#pragma push_macro("CYTHON_INLINE")',
    "#undef CYTHON_INLINE",
    "#define CYTHON_INLINE __attribute__((unused))",
)
INLINED = told_gcc('#pragma pop_macro("CYTHON_INLINE")')
HELPERS = "/* #### Code section: utility_code_proto ### */\n"
OWN = "/* #### Code section: module_declarations ### */\n"
AFTER = "/* #### Code section: module_exttypes ### */\n"
WRAPPER = re.compile(
    r"(^/\* Python wrapper \*/\nstatic PyObject \*__pyx_pw_(?:[^\n]|\n(?!\}\n))*\n\}\n\s*)"
    r"(^static PyObject \*__pyx_pf_)",
    re.MULTILINE,
)
HELPER = re.compile(
    r"^/\* (?:#### Code section: utility_code_def ###|(\w+)(?: \(used by \w+\))?) \*/$",
    re.MULTILINE,
)
# For the import and for tracebacks.
SELDOM = {
    "AddModuleRef",
    "AddTraceback",
    "BuildPyUnicode",
    "CIntToPyUnicode",
    "CLineInTraceback",
    "COrdinalToPyUnicode",
    "CheckBinaryVersion",
    "CodeObjectCache",
    "CythonFunctionFromSharedModule",
    "CythonFunctionPerModule",
    "DecompressString",
    "DecompressString_LZSS",
    "FormatTypeName",
    "FunctionImport",
    "GetRuntimeVersion",
    "GetVTable",
    "ModuleCreationPEP489",
    "MultiPhaseInitModuleState",
    "NewCodeObj",
    "PxdImportShared",
    "PyDictVersioning",
    "PyModInitFuncType",
    "TypeImport",
    "VerifyCachedType",
    "VoidPtrImport",
}

NO_COMPILER = """
fastcnn compiles its kernels when it is installed, and no working C compiler was found.
Install one and try again, for example:
"""
NO_HEADERS = """
fastcnn compiles its kernels when it is installed, and Python's headers (Python.h) were not found.
Install them and try again, for example:
"""
INSTALL = """\
    Debian, Ubuntu:  apt install gcc python3-dev
    Fedora:          dnf install gcc python3-devel
    macOS:           xcode-select --install
    Windows:         Microsoft C++ Build Tools
"""

PROGRAM = "int main(void) { return 0; }\n"
# What every kernel includes first.
HEADERS = '#define PY_SSIZE_T_CLEAN\n#include <Python.h>\n#include "vector.h"\n'
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
    """Return every module to compile: the kernels once for each variant."""
    sources = {name: f"fastcnn/_kernels/{name}.pyx" for name in ("_cpu", "_memory", "_team")}
    result = [Extension(f"{KERNELS}.{name}", [source]) for name, source in sources.items()]
    result.append(Extension(SHARED, []))  # translate gives it its source
    result += [
        Extension(
            f"{KERNELS}.{isa.name}.{dtype}.{name}",
            [f"fastcnn/_kernels/{name}.pyx"],
            extra_compile_args=list(isa.flags),
            define_macros=[("REAL_IS_DOUBLE", "1")] if dtype == "float64" else [],
            include_dirs=["fastcnn/_kernels"],
            depends=[HEADER],
        )
        for isa in ISA["instruction_sets"]()
        for dtype in ISA["DTYPES"]
        for name in dict.fromkeys(ISA["compiled"](dtype).values())
    ]
    return result


def translate(extensions):
    """Translate every source to C, once for all the variants that it is compiled for.

    So a kernel calls itself fastcnn._kernels.conv2d in tracebacks, and Python
    fastcnn._kernels.avx2.float32.conv2d, after its file.
    """
    sources = sorted({source for extension in extensions for source in extension.sources})
    c_files = {source: C_FILES / Path(source).with_suffix(".c") for source in sources}
    tree = create_dependency_tree(quiet=True)
    modules = []
    for source in sources:
        # Cython's own files are as new as the environment that pip makes for each build.
        read = [file for file in tree.all_dependencies(source) if not os.path.isabs(file)]
        if newer_group([source, HEADER, *read], c_files[source]):
            modules.append(Extension(f"{KERNELS}.{Path(source).stem}", [source]))
    shared = C_FILES / "_cython_shared.c"
    c_files[str(shared)] = C_FILES / shared
    if not c_files[str(shared)].exists():
        modules.append(Extension(SHARED, [str(shared)]))
    cythonize(
        modules,
        build_dir=str(C_FILES),
        compiler_directives=DIRECTIVES,
        shared_utility_qualified_name=SHARED,
        nthreads=os.cpu_count() or 1,
        quiet=True,
        force=True,
    )
    for extension in extensions:
        extension.sources = [str(c_files[source]) for source in extension.sources or [str(shared)]]
    for file in c_files.values():
        spend_less(file)


def spend_less(source):
    """Have gcc spend less time on what Cython adds to a module's own code.

    It is half of the time to compile a kernel. What runs once, for the import or a traceback, is
    not optimized; what checks the arguments of a call is, a little, and helpers of Cython are
    called there, not repeated. Where a version of Cython writes other lines, they stay as they are.
    """
    text = source.read_text("utf-8")
    if AFTER in text and NONE not in text:
        own, added = text.split(AFTER, 1)
        # Those with an underscore are called by every kernel.
        if 0 <= own.find(HELPERS) < own.find(OWN) and not source.name.startswith("_"):
            own = own.replace(HELPERS, HELPERS + NOT_INLINED, 1).replace(OWN, INLINED + OWN, 1)
            own = WRAPPER.sub(rf"{ONE}\1{OTHERS}\2", own)
            added = NOT_INLINED + added
        added = HELPER.sub(lambda m: (NONE if m[1] in SELDOM else LITTLE) + m[0], added)
        source.write_text(own + AFTER + NONE + added, "utf-8")


class BuildPackage(build_py):
    """Puts reference/ into the package, in the place of the pointer to it that a clone has."""

    def get_package_dir(self, package):
        return "reference" if package == "fastcnn.reference" else super().get_package_dir(package)


class BuildKernels(build_ext):
    """Compiles with what the compiler has: OpenMP or not, the instruction sets or not."""

    def finalize_options(self):
        super().finalize_options()
        if self.inplace:  # pip would have them in folders that it deletes
            kind = f"{self.plat_name}-{sys.implementation.cache_tag}"
            self.build_lib, self.build_temp = f"build/lib.{kind}", f"build/temp.{kind}"

    def run(self):
        super().run()
        if not self.inplace:
            # Scripts that run in the clone find it before what is installed from it.
            self.copy_extensions_to_source()

    def build_extensions(self):
        self.require_compiler()
        unix = self.compiler.compiler_type == "unix"
        openmp = ["-fopenmp"] if unix else ["/openmp"]
        wanted = os.environ.get("FASTCNN_OPENMP") != "0"
        if not wanted or not self.compiles(openmp, f"#include <omp.h>\n{PROGRAM}"):
            self.warn("building without OpenMP: fastcnn will run on one thread")
            openmp = []
        self.leave_out_unknown_instructions(unix)
        translate(self.extensions)
        (team,) = (extension for extension in self.extensions if extension.name == TEAM)
        self.extensions.remove(team)
        wanted = unix and openmp and os.environ.get("FASTCNN_TEAM") != "0"
        has_team = wanted and self.build_team(team)
        for extension in self.extensions:
            if unix:
                extension.extra_compile_args = FLAGS + extension.extra_compile_args + openmp
                extension.extra_link_args = LINK_FLAGS + openmp
                if has_team:
                    self.link_with_team(extension)
            else:
                extension.extra_compile_args = ["/O2", *openmp]
            self.note_way(extension)
        headers = self.precompile_headers() if has_team else []  # it is gcc, then
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()
        for header in headers:
            header.unlink()
        if has_team:
            self.extensions.append(team)
        else:  # of a build before this one
            for folder in (".", self.build_lib):
                Path(folder, self.get_ext_filename(TEAM)).unlink(missing_ok=True)

    def require_compiler(self):
        """End with a message where there is none: before the minutes that translation takes."""
        if not self.compiles([]):
            sys.exit(NO_COMPILER + INSTALL)
        if not self.compiles([], f"#include <Python.h>\n{PROGRAM}"):
            sys.exit(NO_HEADERS + INSTALL)

    def leave_out_unknown_instructions(self, unix):
        """Keep the kernels for the instruction sets that the compiler knows."""
        for isa in ISA["instruction_sets"]():
            if isa.flags and not (unix and self.compiles(isa.flags)):
                self.warn(f"the compiler does not know {isa.flags}: no kernels for {isa.name}")
                own = f"{KERNELS}.{isa.name}."
                self.extensions = [e for e in self.extensions if not e.name.startswith(own)]

    def build_extension(self, extension):
        variant = copy(self)
        variant.build_temp = self.folder(extension)
        super(BuildKernels, variant).build_extension(extension)

    def folder(self, extension):
        """Return where its object goes: what is compiled from one source needs several places."""
        return os.path.join(self.build_temp, *extension.name.split(".")[2:-1])

    def note_way(self, extension):
        """Have an extension compiled anew if the way to do it is not that of last time."""
        command = getattr(self.compiler, "compiler_so", None)
        options = repr((command, sorted(vars(extension).items())))
        way = Path(self.folder(extension), f"{extension.name.split('.')[-1]}.txt")
        if not way.exists() or way.read_text("utf-8") != options:
            way.parent.mkdir(parents=True, exist_ok=True)
            way.write_text(options, "utf-8")
        extension.depends = [*extension.depends, str(way)]

    def precompile_headers(self):
        """Have gcc read once what all kernels of a variant begin with; return what it made of it.

        That takes it up to a half of the time that it needs for a small kernel.
        """
        variants = {}
        for extension in self.extensions:
            kernel = self.get_ext_fullpath(extension.name)
            sources = [*extension.sources, *extension.depends]
            if extension.include_dirs and (self.force or newer_group(sources, kernel)):
                variants.setdefault(self.folder(extension), []).append(extension)
        made = []
        for folder, kernels in variants.items():
            if len(kernels) < 3:  # as after a change
                continue
            header = Path(folder, "kernel.h")
            header.write_text(HEADERS)
            made.append(header.with_suffix(".h.gch"))
            self.compiler.compile(
                [str(shutil.copy(header, header.with_suffix(".c")))],
                macros=kernels[0].define_macros,
                include_dirs=kernels[0].include_dirs,
                extra_preargs=["-x", "c-header"],
                extra_postargs=kernels[0].extra_compile_args,
            )
            header.with_suffix(".o").rename(made[-1])
            for kernel in kernels:
                kernel.extra_compile_args = [*kernel.extra_compile_args, "-include", str(header)]
        return made

    def build_team(self, team):
        """Build _team, which the kernels are linked with; False where compilers do otherwise."""
        wraps = [f"-Wl,--wrap={name}" for name in WRAPPED]
        if not self.compiles(["-fopenmp"], TEAM_PROBE, wraps):
            self.warn("the kernels will run on the compiler's OpenMP, not on threads of their own")
            return False
        file = self.get_ext_fullpath(TEAM)
        team.extra_compile_args = FLAGS
        team.extra_link_args = [*LINK_FLAGS, "-pthread", f"-Wl,-soname,{Path(file).name}"]
        self.note_way(team)
        self.build_extension(team)
        return True

    def link_with_team(self, extension):
        extension.extra_link_args = LINK_FLAGS.copy()
        folders = extension.name.removeprefix(f"{KERNELS}.").split(".")[:-1]
        if folders:  # a kernel: the modules beside _team have no prange
            extension.extra_objects = [self.get_ext_fullpath(TEAM)]
            extension.extra_link_args += [f"-Wl,--wrap={name}" for name in WRAPPED]
            extension.extra_link_args.append("-Wl,-rpath,$ORIGIN" + "/.." * len(folders))

    def compiles(self, flags, program=PROGRAM, link_flags=None):
        """Return whether a small program compiles, and links with these or the same flags."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(program)
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
    cmdclass={"build_ext": BuildKernels, "build_py": BuildPackage},
)
