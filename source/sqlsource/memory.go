package sqlsource

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// largeHeap is the size from which a heap is not that of a copy alone.
const largeHeap = 512 << 20

// freeMemory returns memory that is no longer in use to the system. The collector would wait
// until the heap has doubled. What a driver has put into a pool is freed by its second run. In
// a process with a large heap nothing is done: there it would cost more than it saves.
func freeMemory() {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	if heap[0].Value.Uint64() < largeHeap {
		runtime.GC()
		debug.FreeOSMemory()
	}
}
