/* bcryptprimitives.dll, which Rust's std loads for random numbers and which wine 8 lacks. */
#include <windows.h>

/* RtlGenRandom in Microsoft's documentation. */
BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) { return SystemFunction036(data, (ULONG)length); }
