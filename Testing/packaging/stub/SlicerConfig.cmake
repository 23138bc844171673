# What an extension's CMake lists need of Slicer, without a Slicer build: the same macros with the same
# arguments, which copy, install and register tests. Slicer_LAUNCHER_EXECUTABLE runs the tests.
set(_empty "${CMAKE_BINARY_DIR}/stub-empty.cmake")
file(WRITE "${_empty}" "")
set(Slicer_USE_FILE "${_empty}")
set(Slicer_EXTENSION_CPACK "${_empty}")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/StubGenerateConfig.cmake")
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "lib/Slicer-5.12/qt-scripted-modules")
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
option(BUILD_TESTING "Register the tests" ON)
enable_testing()

# Copy FILES from SOURCE to the build tree, and install them; a file that is missing is an error.
function(_stub_take target source)
  set(built "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
  foreach(file IN LISTS ARGN)
    if(NOT EXISTS "${source}/${file}")
      message(FATAL_ERROR "${target}: ${file} is listed but not in ${source}")
    endif()
    get_filename_component(folder "${file}" DIRECTORY)
    add_custom_command(OUTPUT "${built}/${file}" DEPENDS "${source}/${file}"
      COMMAND ${CMAKE_COMMAND} -E copy "${source}/${file}" "${built}/${file}")
    install(FILES "${source}/${file}"
      DESTINATION "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}/${folder}")
    list(APPEND outputs "${built}/${file}")
  endforeach()
  add_custom_target(${target} ALL DEPENDS ${outputs})
endfunction()

macro(ctkMacroCompilePythonScript)
  cmake_parse_arguments(_ctk "NO_INSTALL_SUBDIR;GLOB_TESTS"
    "TARGET_NAME;SOURCE_DIR;DESTINATION_DIR;INSTALL_DIR" "SCRIPTS;RESOURCES" ${ARGN})
  if(_ctk_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "ctkMacroCompilePythonScript: unknown ${_ctk_UNPARSED_ARGUMENTS}")
  endif()
  _stub_take(${_ctk_TARGET_NAME} "${_ctk_SOURCE_DIR}" ${_ctk_SCRIPTS} ${_ctk_RESOURCES})
endmacro()

macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(_module "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(_module_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: unknown ${_module_UNPARSED_ARGUMENTS}")
  endif()
  _stub_take(${_module_NAME} "${CMAKE_CURRENT_SOURCE_DIR}" ${_module_SCRIPTS} ${_module_RESOURCES})
endmacro()

macro(slicer_add_python_unittest)
  cmake_parse_arguments(_test "" "SCRIPT" "SLICER_ARGS;TESTNAME_PREFIX" ${ARGN})
  get_filename_component(_name ${_test_SCRIPT} NAME_WE)
  add_test(NAME py_${_name} COMMAND ${Slicer_LAUNCHER_EXECUTABLE} --no-splash --testing
    --additional-module-paths "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}"
    --python-code "import slicer.testing\\; slicer.testing.runUnitTest([r'${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}'], '${_name}')")
endmacro()
