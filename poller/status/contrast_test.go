package status_test

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// luminance follows the definition of the Web Content Accessibility Guidelines.
func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	require.Regexp(t, `^#[0-9a-f]{6}$`, colour)
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
		require.NoError(t, err)
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	la, lb := luminance(t, a), luminance(t, b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

// Text has a contrast of at least 4.5 with its background (AA), lines and symbols of 3.
func TestContrastInBothSchemes(t *testing.T) {
	css, err := os.ReadFile("page.css")
	require.NoError(t, err)
	blocks := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(string(css), -1)
	require.Len(t, blocks, 2, "light, then dark")
	colours := map[string]string{}
	for scheme, block := range blocks {
		names := 0
		for _, m := range regexp.MustCompile(`--([a-z-]+): (.*?);`).FindAllStringSubmatch(block[1], -1) {
			colours[m[1]] = m[2]
			names++
		}
		require.Equal(t, len(colours), names, "each scheme defines all colours")
		for _, pair := range []struct {
			what, on string
			least    float64
		}{
			{"text", "ground", 4.5}, {"text", "card", 4.5}, {"text", "warn-tint", 4.5}, {"text", "bad-tint", 4.5},
			{"muted", "ground", 4.5}, {"muted", "card", 4.5}, {"link", "ground", 4.5}, {"link", "card", 4.5},
			{"warn", "card", 4.5}, {"bad", "card", 4.5}, {"warn", "warn-tint", 4.5}, {"bad", "bad-tint", 4.5},
			{"card", "bad", 4.5}, {"warn", "ground", 4.5},
			{"ok", "card", 3}, {"ok", "ground", 3}, {"wait", "card", 3}, {"wait", "ground", 3}, {"bad", "ground", 3},
			{"rows", "card", 3}, {"lag", "card", 3}, {"focus", "card", 3}, {"focus", "ground", 3},
		} {
			assert.GreaterOrEqual(t, contrast(t, colours[pair.what], colours[pair.on]), pair.least,
				"scheme %d: %s %s on %s %s", scheme, pair.what, colours[pair.what], pair.on, colours[pair.on])
		}
	}
	rest := strings.Join(regexp.MustCompile(`(?s):root \{.*?\}`).Split(string(css), -1), "")
	assert.NotRegexp(t, `#[0-9a-fA-F]{3,8}\b[^{]*;|rgb|hsl`, rest, "a colour that this test does not check")
	assert.InDelta(t, 21, contrast(t, "#000000", "#ffffff"), 1e-9)
}
