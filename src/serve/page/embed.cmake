# SPDX-License-Identifier: Apache-2.0
# Files as arrays of bytes: cmake -DFILES=a;b -DOUT=file -P embed.cmake; page.html becomes page_html.
set(text "")
foreach(file ${FILES})
    get_filename_component(name ${file} NAME)
    string(MAKE_C_IDENTIFIER ${name} name)
    file(READ ${file} bytes HEX)
    string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
    string(APPEND text "static const unsigned char ${name}[] = {${bytes}};\n")
endforeach()
file(WRITE ${OUT} "${text}")
