package disktest

import (
	"bytes"
	"math/rand/v2"
)

// Mutate returns a damaged copy of text, as a lying disk, a bad copy or an editor
// makes it: bits flipped, bytes changed, parts removed, repeated, moved, swapped or
// zeroed, or the end cut off. Sometimes it damages several places.
func Mutate(rng *rand.Rand, text []byte) []byte {
	out := bytes.Clone(text)
	for range 1 + rng.IntN(4)*rng.IntN(2) {
		if len(out) == 0 {
			return append(out, byte(rng.IntN(256)))
		}
		a, b := rng.IntN(len(out)), rng.IntN(len(out)+1)
		a, b = min(a, b), max(a, b)
		part, n := bytes.Clone(out[a:b]), min(len(out)-a, 1+rng.IntN(16))
		switch rng.IntN(11) {
		case 0:
			out[a] ^= 1 << rng.IntN(8)
		case 1:
			out[a] = byte(rng.IntN(256))
		case 2:
			out[a] = out[rng.IntN(len(out))]
		case 3: // a digit, most likely
			out[a] = "0123456789abcdefABCDEFGH234567"[rng.IntN(30)]
		case 4:
			out = append(out[:a], out[a+n:]...)
		case 5:
			out = append(out[:a], out[b:]...)
		case 6: // a part over another
			copy(out[rng.IntN(len(out)):], part)
		case 7: // a part once more
			at := rng.IntN(len(out) + 1)
			out = append(out[:at], append(part, out[at:]...)...)
		case 8:
			clear(out[a:b])
		case 9:
			out = out[:a]
		case 10: // a block of another place
			copy(out[a/64*64:], out[rng.IntN(len(out))/64*64:])
		}
	}
	return out
}
