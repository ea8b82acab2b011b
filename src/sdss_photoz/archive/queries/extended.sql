-- The query of the paper (paper.sql) with the columns that the analysis needs, rows unchanged: neighbours and stripe
-- come by outer joins. Neighbours are primary objects within 17 arcsec; Neighbors.distance is in arcmin.
SELECT za.specObjID, za.bestObjID, za.sciencePrimary, za.class, za.subClass, za.z, za.zErr,
  po.objID, po.type, po.flags, po.ra, po.dec, po.run, po.camcol, po.field, ru.stripe,
  (po.petroMag_r - po.extinction_r) AS dered_petro_r,
  po.petroMag_u, po.petroMag_g, po.petroMag_r, po.petroMag_i, po.petroMag_z,
  po.petroMagErr_u, po.petroMagErr_g, po.petroMagErr_r, po.petroMagErr_i, po.petroMagErr_z,
  po.modelMag_u, po.modelMag_g, po.modelMag_r, po.modelMag_i, po.modelMag_z,
  po.modelMagErr_u, po.modelMagErr_g, po.modelMagErr_r, po.modelMagErr_i, po.modelMagErr_z,
  po.cModelMag_u, po.cModelMag_g, po.cModelMag_r, po.cModelMag_i, po.cModelMag_z,
  po.cModelMagErr_u, po.cModelMagErr_g, po.cModelMagErr_r, po.cModelMagErr_i, po.cModelMagErr_z,
  po.extinction_u, po.extinction_g, po.extinction_r, po.extinction_i, po.extinction_z,
  po.petroR50_u, po.petroR50_g, po.petroR50_r, po.petroR50_i, po.petroR50_z,
  po.petroR90_u, po.petroR90_g, po.petroR90_r, po.petroR90_i, po.petroR90_z,
  po.psffwhm_u, po.psffwhm_g, po.psffwhm_r, po.psffwhm_i, po.psffwhm_z,
  po.sky_u, po.sky_g, po.sky_r, po.sky_i, po.sky_z,
  po.expAB_r, po.deVAB_r, po.fracDeV_r,
  ISNULL(nb.neighbors, 0) AS neighbors,
  zp.z AS zphot, zp.zErr AS dzphot,
  zi.e_bv_sfd, zi.primtarget, zi.sectarget, zi.targettype, zi.spectrotype, zi.subclass AS zi_subclass
INTO mydb.sdss_photoz_galaxies
FROM SpecObjAll za
  JOIN PhotoObjAll po ON (po.objID = za.bestObjID)
  JOIN Photoz zp ON (zp.objID = za.bestObjID)
  JOIN galSpecInfo zi ON (zi.specObjID = za.specObjID)
  LEFT JOIN (SELECT rn.run, MIN(rn.stripe) AS stripe FROM Run rn GROUP BY rn.run) ru ON (ru.run = po.run)
  LEFT JOIN (
    SELECT ne.objID, COUNT(*) AS neighbors
    FROM Neighbors ne
    WHERE ne.distance < 17.0 / 60 AND ne.neighborMode = 1
    GROUP BY ne.objID
  ) nb ON (nb.objID = po.objID)
WHERE
  (za.z > 0 AND za.zWarning = 0)
  AND (za.targetType = 'SCIENCE' AND za.survey = 'sdss')
  AND (za.class = 'GALAXY' AND zi.primtarget >= 64)
  AND (po.clean = 1 AND po.insideMask = 0)
  AND ((po.petroMag_r - po.extinction_r) <= 17.8)
