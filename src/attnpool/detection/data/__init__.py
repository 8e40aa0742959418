"""Images with boxes, from COCO JSON, Pascal VOC, or made up; each source is a file here."""
