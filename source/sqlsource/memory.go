package sqlsource

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// largeHeap is the size from which a heap is not that of a copy alone.
const largeHeap = 512 << 20

// collectRows is the average size of rows from which memory is collected between two batches.
const collectRows = 256 << 10

// freeMemory frees memory that is no longer in use: the collector would wait until the heap has
// doubled. After a row that was read alone, it also returns it to the system; what a driver has put
// into a pool is freed by the second run. In a process with a large heap nothing is done: there it
// would cost more than it saves.
func freeMemory(alone bool) {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	switch used := heap[0].Value.Uint64(); {
	case alone && used < largeHeap:
		runtime.GC()
		debug.FreeOSMemory()
	case used < largeHeap/4:
		runtime.GC()
	}
}
