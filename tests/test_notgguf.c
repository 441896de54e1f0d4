/* SPDX-License-Identifier: Apache-2.0
 * What people give in a GGUF file's place: each is named, in one line that says how to mend it. */
#include <sys/stat.h>

#include "onebad.h"

static char path[64];

#define NOT     "not a GGUF file: it is "
#define CONVERT "convert the folder it comes from with llama.cpp's convert_hf_to_gguf.py"
#define SERVER                                                                                     \
    "what a server sends when a download fails: log in if need be, and get the file again"
#define OLD  NOT "a model in the format before GGUF: convert it anew, or get it as GGUF"
#define JSON NOT "a JSON text, as config.json, or " SERVER

static const struct {
    const char *what, *bytes;
    size_t n;
    const char *line;
} cases[] = {
#define CASE(what, bytes, line)                                                                    \
    {                                                                                              \
        what, bytes, sizeof bytes - 1, line                                                        \
    }
    CASE(
        "Git LFS pointer",
        "version https://git-lfs.github.com/spec/v1\n"
        "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n",
        NOT "a Git LFS pointer, not the file itself: run git lfs pull, or download the file"),
    CASE("git-annex pointer", "/annex/objects/SHA256E-s4--9f86d081.gguf\n",
         NOT "a git-annex pointer, not the file itself: run git annex get"),
    CASE("HTML page", "<!DOCTYPE html>\n<html class=\"\">\n<head>", NOT "an HTML page, " SERVER),
    CASE("HTML page behind a mark and blanks", "\xEF\xBB\xBF \r\n\t<HTML lang=en>",
         NOT "an HTML page, " SERVER),
    CASE("XML text", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code>",
         NOT "an XML text, " SERVER),
    CASE("a server's words", "Entry not found", NOT "a message, " SERVER),
    CASE("a server's number", "404: Not Found", NOT "a message, " SERVER),
    CASE("JSON of a server", "{\"error\":\"Invalid username or password.\"}", JSON),
    CASE("JSON of a model", "{\n  \"architectures\": [\n", JSON),
    CASE("JSON list", "[ 1, 2 ]", JSON),
    CASE("JSON, empty", "{}", JSON),
    CASE("safetensors", "\x18\0\0\0\0\0\0\0{\"__metadata__\":{}}      ",
         NOT "a safetensors file: " CONVERT),
    CASE("safetensors with a long header", "\x40\x42\x0f\0\0\0\0\0{\"lm_head.weight\":{\"dtype\"",
         NOT "a safetensors file: " CONVERT),
    CASE("zip", "PK\3\4\x14\0\0\0\10\0model.gguf",
         NOT "a zip archive: unpack it with unzip, and give the .gguf file in it"),
    CASE("empty zip", "PK\5\6\0\0\0\0\0\0\0\0", NOT "an empty zip archive: get it again"),
    CASE("PyTorch checkpoint",
         "PK\3\4\0\0\10\10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\x12\0"
         "archive/data.pklFB\x0e\0ZZZZ",
         NOT "a PyTorch checkpoint: " CONVERT),
    CASE("pickle", "\x80\2\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.",
         NOT "a Python pickle, such as an old PyTorch checkpoint: " CONVERT),
    CASE("gzip", "\x1f\x8b\10\0\0\0\0\0", NOT "compressed with gzip: unpack it with gunzip"),
    CASE("xz", "\xFD\x37zXZ\0\0\4", NOT "compressed with xz: unpack it with unxz"),
    CASE("zstd", "\x28\xB5\x2F\xFD\x24", NOT "compressed with zstd: unpack it with unzstd"),
    CASE("bzip2", "BZh91AY&SY", NOT "compressed with bzip2: unpack it with bunzip2"),
    CASE("lz4", "\x04\x22\x4D\x18\x64", NOT "compressed with lz4: unpack it with unlz4"),
    CASE("lzip", "LZIP\1\x0c", NOT "compressed with lzip: unpack it with lunzip"),
    CASE("7z", "7z\xBC\xAF\x27\x1C\0\4",
         NOT "a 7z archive: unpack it with 7z x, and give the .gguf file in it"),
    CASE("RAR", "Rar!\x1A\x07\1\0", NOT "a RAR archive: unpack it, and give the .gguf file in it"),
    CASE("ggml", "lmgg\1\0\0\0", OLD),
    CASE("ggmf", "fmgg\1\0\0\0", OLD),
    CASE("ggjt", "tjgg\3\0\0\0", OLD),
    CASE("ggla", "algg\1\0\0\0", NOT "a LoRA adapter in a format before GGUF: give a model"),
    CASE("swapped", "FUGG\0\0\0\3",
         NOT "GGUF with its bytes swapped, for big-endian machines: convert it to little-endian"),
    CASE("HDF5", "\x89HDF\r\n\x1A\n\0", NOT "an HDF5 file, as Keras writes them: " CONVERT),
    CASE("NumPy", "\x93NUMPY\1\0v\0{'descr'", NOT "a NumPy array: give a model"),
    CASE("TensorFlow Lite", "\x1c\0\0\0TFL3", NOT "a TensorFlow Lite model: get the model as GGUF"),
    CASE("ONNX",
         "\10\7\x12\7pytorch\x1a\5"
         "2.1.0",
         NOT "an ONNX model: " CONVERT ", or get the model as GGUF"),
    CASE("SentencePiece", "\n\x0e\n\5<unk>\x15\0\0\0\0\x18\2",
         NOT "a SentencePiece vocabulary, as tokenizer.model: " CONVERT),
    CASE("llamafile", "MZqFpD='\n\n",
         NOT "a llamafile, a program with a model in it: take the .gguf file out with unzip"),
    CASE("program",
         "\x7F"
         "ELF\2\1\1",
         NOT "a program: give a model"),
    CASE("zeros", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
         NOT "nothing but zeros where it begins, a download that was not finished: get it again"),
    CASE("empty", "", "is empty: get it again"),
    CASE("something else", "not a model, but text",
         "not a GGUF file: it starts with 'not ' instead of 'GGUF'"),
    CASE("a brace alone is no JSON", "{{ boo }}",
         "not a GGUF file: it starts with '{{ b' instead of 'GGUF'"),
    CASE("8 bytes and a brace are no safetensors", "\xff\xff\xff\xff\xff\xff\xff\xff{\"",
         "not a GGUF file: it starts with '\\xff\\xff\\xff\\xff' instead of 'GGUF'"),
};

static void test_each(void **state)
{
    (void)state;
    int failed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(gw_save(path, cases[i].bytes, cases[i].n));
        failed += check(cases[i].what, path, try_reader, FTK_ERR_FORMAT, path, cases[i].line);
        failed += check(cases[i].what, path, try_model, FTK_ERR_FORMAT, path, cases[i].line);
    }
    assert_int_equal(failed, 0);
}

/* Cut at any length nothing is read behind the end (the sanitizer sees it), and there is one
 * line. */
static void test_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t n = 0; n < cases[i].n; n++) {
            counting c = {0};
            assert_true(gw_save(path, cases[i].bytes, n));
            assert_int_equal(try_reader(path, &c), FTK_ERR_FORMAT);
            assert_int_equal(c.errors, 1);
            assert_int_equal(c.live, 0);
        }
}

/* Pieces of a file, told by their names: the first begins as it should, the others with
 * anything. */
static void test_pieces(void **state)
{
    (void)state;
    static const char *const names[] = {"gguf-split-a", "gguf.part1of3", "gguf-part-a"};
    int failed = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char piece[96];
        snprintf(piece, sizeof piece, "%s.%s", path, names[i]);
        gw w;
        gw_init(&w);
        gw_tensor(&w, "t", 1, (uint64_t[]){8}, FTK_TYPE_F32, NULL, 32);
        gw_bytes file = gw_finish(&w);
        gw_free(&w);
        assert_true(gw_save(piece, file.p, 40));
        failed += check(names[i], piece, try_reader, FTK_ERR_FORMAT, piece,
                        "1 tensors do not fit into the 16 bytes behind the header: is the file cut "
                        "short? Join its pieces with cat");
        assert_true(gw_save(piece, file.p, file.n - 1));
        free(file.p);
        failed += check(names[i], piece, try_reader, FTK_ERR_FORMAT, piece,
                        "tensor t: 1 of its 32 bytes are missing: the file is cut short, join its "
                        "pieces with cat");
        assert_true(gw_save(piece, "\x12\x34\x56\x78", 4));
        failed += check(names[i], piece, try_reader, FTK_ERR_FORMAT, piece,
                        "not a GGUF file: it is a piece of one, join the pieces with cat");
        unlink(piece);
    }
    assert_int_equal(failed, 0);
}

static void test_tar(void **state)
{
    (void)state;
    static char tar[1024] = "model.gguf";
    memcpy(tar + 257, "ustar\00000", 8);
    assert_true(gw_save(path, tar, sizeof tar));
    assert_int_equal(check("tar", path, try_reader, FTK_ERR_FORMAT, path,
                           NOT
                           "a tar archive: unpack it with tar -xf, and give the .gguf file in it"),
                     0);
}

static void put_file(const char *name)
{
    char file[128];
    snprintf(file, sizeof file, "%s/%s", path, name);
    assert_true(gw_save(file, "x", 1));
}

static void remove_file(const char *name)
{
    char file[128];
    snprintf(file, sizeof file, "%s/%s", path, name);
    unlink(file);
}

static void test_folders(void **state)
{
    (void)state;
    int failed = 0;
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    failed +=
        check("folder", path, try_reader, FTK_ERR_IO, path, "is a directory, not a GGUF file");
    put_file("model.safetensors");
    failed += check("folder of safetensors", path, try_reader, FTK_ERR_IO, path,
                    "is a directory, not a GGUF file: it holds a model as safetensors, convert it "
                    "with llama.cpp's convert_hf_to_gguf.py");
    put_file("model.gguf");
    failed += check("folder of both", path, try_model, FTK_ERR_IO, path,
                    "is a directory, not a GGUF file: give one of the .gguf files in it");
    remove_file("model.gguf");
    remove_file("model.safetensors");
    rmdir(path);
    assert_int_equal(failed, 0);
}

static void test_empty_path(void **state)
{
    (void)state;
    counting c = {0};
    assert_int_equal(try_reader("", &c), FTK_ERR_INVALID);
    assert_string_equal(c.line, "the path of a file is empty: give a GGUF file");
    assert_int_equal(try_model("", &c), FTK_ERR_INVALID);
    assert_int_equal(c.errors, 2);
    assert_int_equal(c.live, 0);
}

int main(void)
{
    snprintf(path, sizeof path, "/tmp/ftk-test-notgguf-%ld", (long)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each),    cmocka_unit_test(test_cut),
        cmocka_unit_test(test_tar),     cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_folders), cmocka_unit_test(test_empty_path),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
