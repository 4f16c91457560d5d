/*
 * ctrl.exe PID 0 | 1 | alive | kill: lets a console event happen in one process (0 is CTRL_C, 1 is CTRL_BREAK), asks whether it lives, or
 * ends it. Exit code 0: done, or it lives.
 *
 * Windows delivers such an event by a thread that it starts at kernelbase!CtrlRoutine in the process, and so does this:
 * GenerateConsoleCtrlEvent of Wine 8 knows no CTRL_BREAK. Which processes an event goes to, by console and process group, is therefore
 * not tested. Wine's CtrlRoutine drops CTRL_BREAK too where CTRL_C is ignored (bit 0 of ConsoleFlags in the process parameters), as it
 * is in a new process group; Windows does not. So the bit is cleared meanwhile.
 */
#include <windows.h>
#include <stdlib.h>
#include <string.h>

typedef LONG(WINAPI *QueryProcess)(HANDLE, ULONG, PVOID, ULONG, PULONG);

/* Where the parameters are in the PEB, and the flags in them, on x64. */
#define PARAMETERS 0x20
#define CONSOLE_FLAGS 0x18

int main(int count, char **args) {
  if (count != 3) return 2;
  HANDLE process = OpenProcess(PROCESS_ALL_ACCESS, FALSE, atoi(args[1]));
  if (!process) return 1;
  if (!strcmp(args[2], "alive")) return WaitForSingleObject(process, 0) == WAIT_TIMEOUT ? 0 : 1;
  if (!strcmp(args[2], "kill")) return TerminateProcess(process, 1) ? 0 : 1;
  QueryProcess query = (QueryProcess)GetProcAddress(GetModuleHandleA("ntdll.dll"), "NtQueryInformationProcess");
  struct { LONG_PTR status; char *peb; ULONG_PTR rest[4]; } basic = {0};
  query(process, 0, &basic, sizeof basic, NULL);
  char *parameters = NULL;
  ULONG flags = 0, cleared;
  ReadProcessMemory(process, basic.peb + PARAMETERS, &parameters, sizeof parameters, NULL);
  ReadProcessMemory(process, parameters + CONSOLE_FLAGS, &flags, sizeof flags, NULL);
  cleared = flags & ~1u;
  WriteProcessMemory(process, parameters + CONSOLE_FLAGS, &cleared, sizeof cleared, NULL);
  FARPROC routine = GetProcAddress(GetModuleHandleA("kernelbase.dll"), "CtrlRoutine");
  HANDLE thread = CreateRemoteThread(process, NULL, 0, (LPTHREAD_START_ROUTINE)routine, (void *)(ULONG_PTR)atoi(args[2]), 0, NULL);
  if (thread) WaitForSingleObject(thread, 500);
  WriteProcessMemory(process, parameters + CONSOLE_FLAGS, &flags, sizeof flags, NULL);
  return thread ? 0 : 1;
}
