# SPDX-License-Identifier: Apache-2.0
# Writes the commit into a header, at every build; the file changes only when the commit does:
# cmake -DSOURCE=ROOT -DOUT=commit.h -P commit.cmake
set(commit unknown)
find_program(git git)
if(git)
    # A prefix means that the sources lie inside somebody else's repository.
    execute_process(COMMAND ${git} -C ${SOURCE} rev-parse --show-prefix OUTPUT_VARIABLE prefix
        RESULT_VARIABLE failed OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(NOT failed AND prefix STREQUAL "")
        execute_process(COMMAND ${git} -C ${SOURCE} describe --always --dirty --abbrev=12
            OUTPUT_VARIABLE name RESULT_VARIABLE failed OUTPUT_STRIP_TRAILING_WHITESPACE
            ERROR_QUIET)
        if(NOT failed)
            set(commit ${name})
        endif()
    endif()
endif()
set(text "#define FTK_COMMIT \"${commit}\"\n")
set(old)
if(EXISTS ${OUT})
    file(READ ${OUT} old)
endif()
if(NOT old STREQUAL text)
    file(WRITE ${OUT} "${text}")
endif()
